package discovery

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	// The question for the instances comes when those that answered the last one have less than half of their life left, so
	// that it needs no known answers and all answer it, and before a record has to be refreshed by itself.
	askEvery  = 75 * time.Second
	askSpread = 15 * time.Second      // that the questions of many devices are apart
	viewEvery = 20 * time.Millisecond // at most, while packets pour in
	packetsIn = 256
	askEarly  = 3 // of the first questions count nothing that others ask

	nudgeAgain = time.Second
	retryFirst = time.Second
	retryMax   = time.Minute // between two attempts to use a link

	missedEvery = 10 * time.Second
	missedWait  = 3 * time.Second
)

// askAfter are the times between the first questions on a link.
var askAfter = [...]time.Duration{time.Second, 3 * time.Second, 9 * time.Second, 27 * time.Second}

// goodbyeAfter are the times, since the Server's own goodbye, at which it is repeated: one packet is easily lost.
var goodbyeAfter = [...]time.Duration{100 * time.Millisecond, 300 * time.Millisecond}

// link is discovery on one link. Everything in it belongs to the goroutine of run.
type link struct {
	d         *Discovery
	ifi       Interface
	publisher publisher
	sockets   sockets
	stopRead  context.CancelFunc
	packets   chan packet
	cache     *cache
	shown     map[key]Event
	said      said                     // what the Server announces
	doubts    map[netip.Addr]time.Time // addresses that the Server announced and we were not told of: when to withdraw them, zero when done
	clone     clone

	askAt    time.Time    // next question by the schedule
	asked    int          // questions asked by the schedule
	missedAt time.Time    // begin of a flood
	nudgeAt  time.Time    // next question for our own instance; zero when none is due
	nudges   int          // that are still to come after nudgeAt
	lost     []netip.Addr // addresses that were ours, to be withdrawn once more
	lostAt   time.Time    // when; zero when there are none
	viewed   time.Time    // when shown was made
	dirty    bool         // the cache differs from shown
	retryAt  time.Time    // when to try again what failed
	retry    time.Duration
	replied  [2]time.Time // when our addresses were last sent, by family of the record
	status   InterfaceStatus
}

func newLink(d *Discovery, s linkState) *link {
	ifi := s.Interface
	l := &link{d: d, ifi: ifi, said: s.said, packets: make(chan packet, packetsIn), cache: newCache(d.service), shown: map[key]Event{}, doubts: map[netip.Addr]time.Time{}}
	l.cache.own.now(s.said)
	l.status = InterfaceStatus{Index: ifi.Index, Name: ifi.Name}
	l.stopRead = func() {}
	return l
}

// run works until ctx ends, and then takes back what it said about instances. The link must be closed afterwards.
func (l *link) run(ctx context.Context, update <-chan linkState) {
	l.open(ctx)
	l.schedule(time.Now())
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case s := <-update:
			l.change(ctx, s)
		case p := <-l.packets:
			l.take(time.Now(), p)
			l.drain()
		case <-until(l.next()):
		}
		l.step(ctx, time.Now())
	}
	for k := range l.shown {
		l.d.queue.set(k, nil)
	}
	if !l.clone.heard.IsZero() {
		l.d.queue.set(key{index: l.ifi.Index}, nil)
	}
}

// drain takes what is waiting, so that a flood costs one look at the cache and not one a packet.
func (l *link) drain() {
	for range packetsIn {
		select {
		case p := <-l.packets:
			l.take(time.Now(), p)
		default:
			return
		}
	}
}

// open opens what is missing. What fails is tried again later.
func (l *link) open(ctx context.Context) {
	var failed error
	if l.sockets.v4 == nil && l.sockets.v6 == nil {
		var readCtx context.Context
		readCtx, l.stopRead = context.WithCancel(ctx)
		failed = l.listen(readCtx)
	} else if l.sockets.v4 == nil && l.ifi.has(false) || l.sockets.v6 == nil && l.ifi.has(true) {
		l.shut()
		l.open(ctx)
		return
	}
	if l.publisher.server == nil && l.said.name != "" {
		if err := l.publisher.start(l.d.config, l.ifi, l.said); err != nil {
			failed = err
		} else {
			// Asking for our own instance makes the Server announce it now and not after its half second of pretended
			// probes. It announces itself once more a second later.
			l.nudge(time.Now(), 0)
		}
	}
	l.retryAt, l.status.Error = time.Time{}, ""
	if failed != nil && ctx.Err() == nil {
		l.retry = min(max(2*l.retry, retryFirst), retryMax)
		l.retryAt, l.status.Error = time.Now().Add(l.retry), failed.Error()
		l.d.logger.Warn("Discovery does not work on this interface", "ifname", l.ifi.Name, "err", failed)
	} else {
		l.retry = 0
	}
	l.report()
}

// listen opens a socket for each family that the link has an address of: without one, packets would carry another link's.
func (l *link) listen(ctx context.Context) error {
	var failed error
	for _, v6 := range []bool{false, true} {
		if !l.ifi.has(v6) {
			continue
		}
		s, err := openSocket(l.ifi, v6)
		if err != nil {
			failed = err
			continue
		}
		if v6 {
			l.sockets.v6 = s
		} else {
			l.sockets.v4 = s
		}
		l.sockets.wg.Go(func() { s.receive(ctx, l.packets) })
	}
	return failed
}

// shut closes the sockets.
func (l *link) shut() {
	l.stopRead()
	l.sockets.close()
}

// close ends discovery on the link; with goodbyes when the link is still there.
func (l *link) close(goodbyes bool) {
	publishing := l.publisher.server != nil
	l.publisher.stop()
	if goodbyes && publishing {
		start := time.Now()
		for _, at := range goodbyeAfter {
			<-time.After(at - time.Since(start))
			l.leave()
		}
	}
	l.shut()
}

// leave says once that our instance goes.
func (l *link) leave() {
	if raw, err := goodbye(l.d.service, l.said.name); err == nil {
		_ = l.sockets.send(raw)
	}
}

// change takes other addresses of the link, or another announcement.
func (l *link) change(ctx context.Context, s linkState) {
	ifi := s.Interface
	renew := !l.said.equal(s.said)
	if s.renamed != nil {
		if l.publisher.server != nil {
			l.publisher.stop()
			l.leave() // its own goodbye is easily lost
			l.lost = nil
		}
		close(s.renamed)
	}
	for _, p := range l.ifi.Prefixes {
		if a := p.Addr(); !ifi.own(a) {
			l.lose(a)
			renew = true
		}
	}
	maps.DeleteFunc(l.doubts, func(a netip.Addr, _ time.Time) bool { return ifi.own(a) })
	families := l.ifi.has(false) != ifi.has(false) || l.ifi.has(true) != ifi.has(true)
	l.ifi, l.said = ifi, s.said
	l.cache.own.now(s.said)
	if families {
		l.shut()
	}
	if renew {
		// Only a new Server says, by the cache-flush bit, that an address is no longer ours, or what the TXT record is now. The
		// nudge makes it speak within the second in which its predecessor's goodbye is not yet believed.
		l.publisher.stop()
	}
	l.open(ctx)
	now := time.Now()
	l.withdraw(now)
	if !renew {
		// A new Server repeats itself. Saying it more often would keep the old records alive in Avahi, which begins its second of
		// grace anew with each cache-flush bit.
		l.nudge(now, 1)
	}
	if families {
		l.schedule(now)
	}
	// Other neighbours are on the link now.
	l.dirty = true
}

// schedule starts the questions anew.
func (l *link) schedule(now time.Time) {
	l.asked = 0
	l.askAt = now.Add(20*time.Millisecond + rand.N(100*time.Millisecond))
}

// missed has the questions come soon again, as on a new link: who came while others flooded it was not heard. It is best to ask
// when the flood is over, but one may last.
func (l *link) missed(now time.Time) {
	since := now.Sub(l.missedAt)
	if since > missedEvery {
		l.missedAt, since = now, 0
	}
	if since <= missedWait {
		l.asked, l.askAt = 1, now.Add(askAfter[0])
	}
}

// nudge makes our Server announce its present addresses, now and again so many times, a second apart.
func (l *link) nudge(now time.Time, again int) {
	if l.publisher.server != nil {
		l.nudgeAt, l.nudges = now, max(l.nudges, again)
	}
}

// next returns when step has something to do.
func (l *link) next() time.Time {
	at := l.askAt
	for _, t := range []time.Time{l.cache.next(), l.nudgeAt, l.retryAt, l.clone.next(), l.nextDoubt(), l.lostAt} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if l.dirty {
		if t := l.viewed.Add(viewEvery); t.Before(at) {
			at = t
		}
	}
	return at
}

// step does what is due.
func (l *link) step(ctx context.Context, now time.Time) {
	if ctx.Err() != nil {
		return
	}
	if !l.retryAt.IsZero() && !now.Before(l.retryAt) {
		l.open(ctx)
	}
	if l.cache.expire(now) {
		l.dirty = true
	}
	if l.dirty && now.Sub(l.viewed) >= viewEvery {
		l.show(now)
	}
	l.watchClone(now)
	l.settleDoubts(now)
	if !l.lostAt.IsZero() && !now.Before(l.lostAt) {
		l.withdraw(now)
		l.lost, l.lostAt = nil, time.Time{}
	}
	if !l.nudgeAt.IsZero() && !now.Before(l.nudgeAt) {
		l.ask([]dns.Question{{Name: l.said.name, Qtype: dns.TypeSRV, Qclass: dns.ClassINET}}, nil)
		l.nudgeAt = time.Time{}
		if l.nudges > 0 {
			l.nudges--
			l.nudgeAt = now.Add(nudgeAgain)
		}
	}
	all := l.due(now)
	if questions := l.cache.due(now, all, all && l.asked <= askEarly); len(questions) > 0 {
		var known []dns.RR
		if questions[0].Qtype == dns.TypePTR {
			known = l.cache.answers(now, l.said.name)
		}
		l.ask(questions, known)
	}
}

// due reports whether the question for the instances is due by the schedule, and counts it as asked. When the first ones
// are over, a question that somebody else asked counts as ours: on a link with many devices one asks for all of them.
func (l *link) due(now time.Time) bool {
	if now.Before(l.askAt) {
		return false
	}
	if l.asked < len(askAfter) {
		l.askAt = now.Add(askAfter[l.asked])
		l.asked++
		return true
	}
	spread := rand.N(askSpread)
	if next := l.cache.heard.Add(askEvery + spread); l.cache.heard.After(now.Add(-askEvery)) {
		l.askAt = next
		return false
	}
	l.askAt = now.Add(askEvery + spread)
	return true
}

func (l *link) ask(questions []dns.Question, known []dns.RR) {
	packets, err := pack(questions, known)
	for _, raw := range packets {
		if e := l.sockets.send(raw); e != nil {
			err = e
		}
	}
	if err != nil {
		l.d.logger.Debug("Question not sent", "ifname", l.ifi.Name, "err", err)
	}
}

// show tells the reader of events what differs from what it knows.
func (l *link) show(now time.Time) {
	view := l.cache.view(l.ifi, l.shown)
	for k := range l.shown {
		if _, ok := view[k]; !ok {
			l.d.queue.set(k, nil)
		}
	}
	for k, e := range view {
		if old, ok := l.shown[k]; !ok || !old.equal(e) {
			l.d.queue.set(k, &e)
		}
	}
	l.shown, l.viewed, l.dirty = view, now, false
	l.report()
}

func (l *link) report() {
	l.status.IPv4, l.status.IPv6 = l.sockets.v4 != nil, l.sockets.v6 != nil
	l.status.Publishing = l.publisher.server != nil
	l.status.Instances = len(l.cache.instances)
	l.d.setStatus(l.status)
}

// take looks at one packet. What is not multicast DNS from a neighbour on this link is dropped (RFC 6762 11).
func (l *link) take(now time.Time, p packet) {
	if p.lost {
		l.missed(now)
		return
	}
	msg, ok := l.accept(p)
	if !ok {
		l.status.Dropped++
		return
	}
	l.status.Accepted++
	if !msg.Response {
		// Our own questions come back; they must not count as somebody else's.
		if !l.ifi.own(p.src.Addr()) {
			l.cache.hear(now, msg, p.src.Addr())
		}
		l.answer(now, msg)
		return
	}
	rrs := append(msg.Answer, msg.Extra...)
	if l.ifi.own(p.src.Addr()) {
		l.hearOwn(now, rrs)
	} else {
		l.meet(now, rrs, p.src.Addr())
	}
	if l.cache.apply(now, rrs, p.src.Addr()) {
		l.dirty = true
	}
}

func (l *link) accept(p packet) (*dns.Msg, bool) {
	if p.src.Port() != mdnsPort || p.hops != mdnsHops || !l.ifi.onLink(p.src.Addr()) {
		return nil, false
	}
	var msg dns.Msg
	if err := msg.Unpack(p.data); err != nil || msg.Opcode != dns.OpcodeQuery || msg.Rcode != dns.RcodeSuccess {
		return nil, false
	}
	return &msg, true
}
