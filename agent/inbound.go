package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"time"

	"nigh/agent/doctor"
	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/trust"
	"nigh/link"
)

// Bounds of what is found out about connections from outside.
const (
	inboundWait  = 1500 * time.Millisecond // for a device to connect to us by itself, before it is asked to
	inboundAgain = 30 * time.Second        // after nobody could say
	inboundOld   = 10 * time.Minute        // then it is asked again when somebody new is there
	inboundAsk   = 6 * time.Second         // for all that doctor asks
	inboundAsked = 2                       // devices that doctor asks on one link
	guestLife    = 120 * time.Second       // of a device that greeted us and is not heard: as long as its announcement would live
	maxGuests    = 64
)

// inbound knows of every link whether devices on it can connect to us: the proof
// that no firewall is in the way, which reading its rules does not give. A device
// that connected is proof; where none does, one is asked to. It also keeps the
// strangers that greeted us and cannot be greeted, because a firewall of theirs
// is in the way, or ours keeps their announcements out.
type inbound struct {
	a    *Agent
	wake chan struct{} // capacity 1: there are guests

	mu     sync.Mutex
	words  map[string]word      // by link; guarded by mu
	asking map[string]bool      // by link; guarded by mu
	again  map[string]time.Time // by link: not to be asked about before; guarded by mu
	on     map[string]string    // the addresses that a link had; guarded by mu
	guests map[string]guest     // by the key of their sightings; guarded by mu
}

// word is what is known of one link.
type word struct {
	outcome session.Inbound
	peer    identity.DeviceID // that found it
	at      time.Time
}

// guest is a stranger that greeted us.
type guest struct {
	id    identity.DeviceID
	hello session.Hello
	s     sighting
	until time.Time
}

func newInbound(a *Agent) *inbound {
	return &inbound{
		a: a, wake: make(chan struct{}, 1),
		words: map[string]word{}, asking: map[string]bool{}, again: map[string]time.Time{}, on: map[string]string{}, guests: map[string]guest{},
	}
}

// dialledUs is the session layer's word that a device connected to us.
func (a *Agent) dialledUs(p session.Peer) {
	a.inbound.learn(p.Ifname, session.InboundOpen, p.ID)
}

// learn notes what a device found on a link.
func (i *inbound) learn(ifname string, outcome session.Inbound, id identity.DeviceID) {
	if ifname == "" {
		return
	}
	i.mu.Lock()
	old := i.words[ifname]
	i.words[ifname] = word{outcome, id, time.Now()}
	i.mu.Unlock()
	if old.outcome != outcome {
		i.a.log.Info("Connections from outside were tried", "ifname", ifname, "outcome", outcome, "peer", id.Short())
		i.a.publishStatus()
	}
}

// of returns what is known of a link, "" when nothing is.
func (i *inbound) of(ifname string) session.Inbound {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.words[ifname].outcome
}

// onLinks forgets what was known of links that are gone or have other addresses.
func (i *inbound) onLinks(links []link.Link) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := map[string]string{}
	for _, l := range links {
		if l.Usable {
			now[l.Name] = fmt.Sprint(l.Index, l.Prefixes)
		}
	}
	for ifname, had := range i.on {
		if now[ifname] != had {
			delete(i.words, ifname)
			delete(i.again, ifname)
		}
	}
	i.on = now
}

// connected has a trusted device asked whether it can dial us, when it does not by
// itself.
func (i *inbound) connected(id identity.DeviceID, path session.Candidate) {
	i.ask(id, path.Ifname, netip.AddrPort{})
}

// near is connected for a stranger that was greeted.
func (i *inbound) near(id identity.DeviceID, s sighting) {
	i.mu.Lock()
	for key, g := range i.guests {
		if g.id == id && g.s.ifname == s.ifname && key != s.key {
			delete(i.guests, key)
			i.a.table.detach(key) // there is better to know of it
		}
	}
	i.mu.Unlock()
	if len(s.addrs) > 0 && i.a.trust.Standing(id) == trust.New {
		i.ask(id, s.ifname, s.addrs[0])
	}
}

// ask has a device asked in a while, if until then nothing is known of the link.
func (i *inbound) ask(id identity.DeviceID, ifname string, to netip.AddrPort) {
	if ifname == "" || !i.begin(ifname) {
		return
	}
	i.a.background(func(ctx context.Context) {
		defer i.done(ifname)
		if !wait(ctx, inboundWait) || !i.unknown(ifname) {
			return
		}
		i.check(ctx, id, to, ifname)
	})
}

// begin reports whether somebody is to be asked about a link, and counts as that.
func (i *inbound) begin(ifname string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.asking[ifname] || !i.unknownLocked(ifname) || time.Now().Before(i.again[ifname]) {
		return false
	}
	i.asking[ifname] = true
	return true
}

func (i *inbound) done(ifname string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.asking, ifname)
}

func (i *inbound) unknown(ifname string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.unknownLocked(ifname)
}

func (i *inbound) unknownLocked(ifname string) bool {
	w, ok := i.words[ifname]
	return !ok || time.Since(w.at) > inboundOld
}

// check asks one device and notes its answer. It reports whether there was one for
// the link ifname.
func (i *inbound) check(ctx context.Context, id identity.DeviceID, to netip.AddrPort, ifname string) bool {
	outcome, on, err := i.a.sessions.CheckInbound(ctx, id, to)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, session.ErrClosed) {
			i.a.log.Debug("A device does not say whether it can dial us", "peer", id.Short(), "ifname", ifname, "err", err)
		}
		i.mu.Lock()
		i.again[ifname] = time.Now().Add(inboundAgain)
		i.mu.Unlock()
		return false
	}
	i.learn(on, outcome, id)
	return on == ifname
}

// ask has devices on every usable link dial us now, as many as are needed to know,
// and returns what is known then.
func (i *inbound) askAll(ctx context.Context) (all []doctor.DialBack) {
	ctx, cancel := context.WithTimeout(ctx, inboundAsk)
	defer cancel()
	var asking sync.WaitGroup
	var links []string
	for _, l := range i.a.links.Links() {
		if !l.Usable {
			continue
		}
		links = append(links, l.Name)
		asking.Go(func() {
			for _, who := range i.a.table.askable(l.Name, inboundAsked) {
				if i.check(ctx, who.id, who.to, l.Name) {
					return
				}
			}
		})
	}
	asking.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, ifname := range links {
		if w, ok := i.words[ifname]; ok {
			all = append(all, doctor.DialBack{Ifname: ifname, Peer: i.a.peerName(w.peer), Outcome: string(w.outcome)})
		}
	}
	return all
}

// neighbour is a device that can be asked something over one link.
type neighbour struct {
	id identity.DeviceID
	to netip.AddrPort // zero: over its control connection
}

// askable returns up to most devices that can be asked something over a link:
// those whose session takes it first, then the trusted ones.
func (t *table) askable(ifname string, most int) (all []neighbour) {
	t.mu.Lock()
	defer t.mu.Unlock()
	order := map[identity.DeviceID]int{}
	for id, p := range t.peers {
		standing := t.standing(id).Standing
		if standing == trust.Blocked {
			continue
		}
		if p.link.Connected && p.link.Path.Ifname == ifname {
			all = append(all, neighbour{id: id})
			continue
		}
		for _, s := range p.sightings {
			if s.ifname == ifname && len(s.addrs) > 0 {
				all = append(all, neighbour{id, s.addrs[0]})
				order[id] = 2
				if standing == trust.Trusted {
					order[id] = 1
				}
				break
			}
		}
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		return cmp.Or(cmp.Compare(order[a.id], order[b.id]), slices.Compare(a.id[:], b.id[:])) < 0
	})
	return all[:min(len(all), most)]
}

// greeted takes a device's own word of who it is: it came from outside, so its key
// is proved. A stranger is listed by it when it cannot be greeted itself.
func (a *Agent) greeted(p session.Peer, g session.Greeting) {
	if p.Standing == trust.Blocked || p.ID == a.id.ID || p.Ifname == "" {
		return
	}
	if g.Port == 0 {
		a.inbound.left(p.ID, p.Ifname)
		return
	}
	from := netip.AddrPortFrom(p.Remote.Addr(), g.Port)
	hello := session.Hello{Version: session.Version, Name: g.Name, ID: p.ID}
	if a.prover.settle(p.Ifname, from, p.ID, hello) || p.Standing != trust.New || a.table.seenOn(p.ID, p.Ifname) {
		return
	}
	a.inbound.welcome(guest{id: p.ID, hello: hello, s: sighting{
		key: fmt.Sprintf("greeted/%s/%s", p.Ifname, p.ID), kind: kindLAN, ifname: p.Ifname, addrs: []netip.AddrPort{from},
	}})
}

// seenOn reports whether a device was sighted on a link.
func (t *table) seenOn(id identity.DeviceID, ifname string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil {
		return false
	}
	for _, s := range p.sightings {
		if s.ifname == ifname {
			return true
		}
	}
	return false
}

// welcome lists a stranger for a while.
func (i *inbound) welcome(g guest) {
	if i.a.direct.isGroup(g.s.ifname) {
		g.s.kind = kindDirect
	}
	g.until = time.Now().Add(guestLife)
	i.mu.Lock()
	if _, ok := i.guests[g.s.key]; !ok && len(i.guests) >= maxGuests {
		i.mu.Unlock()
		return
	}
	i.guests[g.s.key] = g
	known := i.a.table.attach(g.id, g.hello.Name, g.s)
	i.mu.Unlock()
	if known {
		i.a.log.Info("A device that greeted us is near", "peer", g.id.Short(), "ifname", g.s.ifname)
		i.a.publishPeer(g.id)
	}
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// left takes the word of a guest that it is not to be listed any more.
func (i *inbound) left(id identity.DeviceID, ifname string) {
	i.mu.Lock()
	var keys []string
	for key, g := range i.guests {
		if g.id == id && g.s.ifname == ifname {
			delete(i.guests, key)
			keys = append(keys, key)
		}
	}
	i.mu.Unlock()
	for _, key := range keys {
		i.a.lose(key)
	}
}

// gone takes the goodbye of whoever is at these addresses.
func (i *inbound) gone(addrs []netip.AddrPort) {
	i.mu.Lock()
	var keys []string
	for key, g := range i.guests {
		if slices.ContainsFunc(g.s.addrs, func(a netip.AddrPort) bool { return slices.Contains(addrs, a) }) {
			delete(i.guests, key)
			keys = append(keys, key)
		}
	}
	i.mu.Unlock()
	for _, key := range keys {
		i.a.lose(key)
	}
}

// run looks after the guests: whose time is over is greeted, and forgotten when it
// neither answers nor announces itself, or is hidden now: its word of that may have been lost.
func (i *inbound) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-i.wake:
		case <-timer.C:
		}
		due, next := i.due(time.Now())
		for _, g := range due {
			i.visit(ctx, g)
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// due returns the guests whose time is over, which it forgets, and when the next
// one's is.
func (i *inbound) due(now time.Time) (over []guest, next time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for key, g := range i.guests {
		if !g.until.After(now) {
			delete(i.guests, key)
			over = append(over, g)
		} else if next.IsZero() || g.until.Before(next) {
			next = g.until
		}
	}
	return over, next
}

func (i *inbound) visit(ctx context.Context, g guest) {
	if !i.a.prover.settle(g.s.ifname, g.s.addrs[0], g.id, g.hello) {
		ctx, cancel := context.WithTimeout(ctx, greetTimeout)
		defer cancel()
		if id, hello, err := i.a.sessions.Greet(ctx, g.s.addrs[0]); err == nil && id == g.id && !hello.Hidden {
			g.hello = hello
			i.welcome(g)
			return
		}
	}
	i.a.lose(g.s.key)
}
