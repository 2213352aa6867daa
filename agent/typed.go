package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/store"
	"nigh/agent/trust"
)

// Bounds of typed addresses.
const (
	maxTyped      = 64
	typedRetryMin = time.Second
	typedRetryMax = time.Minute
	typedCheck    = 30 * time.Second // between two greetings of a device without a session
	typedFails    = 2                // greetings without an answer until the path is gone
)

// typedBucket is where the addresses of trusted devices are kept: DeviceIDs by
// the text of the place.
const typedBucket = "addresses"

// typed keeps the addresses that a person typed, for networks that let no
// multicast through. Each is greeted again and again: an address of a trusted
// device also after a restart, and until it is removed or the trust ends. It is a
// path of the device that answered first and of no other.
type typed struct {
	a      *Agent
	bucket *store.Bucket

	writing sync.Mutex // orders changes that the bucket follows; taken before mu
	mu      sync.Mutex
	all     map[string]*typedAddress // by the text of the place; guarded by mu
}

// typedAddress is one of them. Its goroutine greets it.
type typedAddress struct {
	place place
	id    identity.DeviceID
	again chan struct{}      // capacity 1: to be greeted now
	end   context.CancelFunc // nil until the agent runs; guarded by typed.mu
}

func (t *typedAddress) key() string { return "manual/" + t.place.String() }

func newTyped(a *Agent) (*typed, error) {
	t := &typed{a: a, bucket: a.store.Bucket(typedBucket), all: map[string]*typedAddress{}}
	var stale [][]byte
	err := t.bucket.ForEach(func(key, _ []byte) error {
		p, ok, err := parsePlace(string(key))
		var id identity.DeviceID
		if !ok || err != nil || t.bucket.Get(key, &id) != nil || a.trust.Standing(id) != trust.Trusted || len(t.all) >= maxTyped {
			stale = append(stale, key)
			return nil
		}
		t.all[p.String()] = &typedAddress{place: p, id: id, again: make(chan struct{}, 1)}
		return nil
	})
	for _, key := range stale {
		err = errors.Join(err, t.bucket.Delete(key))
	}
	return t, err
}

// run greets what was remembered until ctx ends.
func (t *typed) run(ctx context.Context) error {
	t.mu.Lock()
	for _, one := range t.all {
		if one.end == nil {
			t.begin(one, false)
		}
	}
	t.mu.Unlock()
	<-ctx.Done()
	return nil
}

// begin starts to greet an address; t.mu is held. met says that it was just
// greeted.
func (t *typed) begin(one *typedAddress, met bool) {
	ctx, end := context.WithCancel(t.a.life)
	one.end = end
	t.a.background(func(context.Context) {
		defer end()
		t.follow(ctx, one, met)
	})
}

// follow greets one address for as long as ctx lives.
func (t *typed) follow(ctx context.Context, one *typedAddress, met bool) {
	fails := 0
	wait := typedRetryMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	if met {
		timer.Reset(typedCheck)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-one.again:
			wait = typedRetryMin
		case <-timer.C:
		}
		if t.a.table.connected(one.id) {
			// Its session tells how it is.
			timer.Reset(typedCheck)
			continue
		}
		addrs, err := t.a.resolvePlace(ctx, one.place)
		if err == nil {
			err = t.greet(ctx, one, addrs)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			fails, wait = 0, typedRetryMin
			timer.Reset(typedCheck)
			continue
		}
		if fails++; fails >= typedFails {
			t.a.lose(one.key())
		}
		t.a.log.Debug("A typed address does not lead to its device", "address", one.place, "peer", one.id.Short(), "err", err)
		timer.Reset(wait)
		wait = min(2*wait, typedRetryMax)
	}
}

// greet greets the addresses in their order and makes the first that leads to the
// device a path to it, with the others.
func (t *typed) greet(ctx context.Context, one *typedAddress, addrs []netip.AddrPort) error {
	err := error(session.ErrNoAddress)
	for i, addr := range addrs {
		gctx, cancel := context.WithTimeout(ctx, greetTimeout)
		id, hello, e := t.a.sessions.Greet(gctx, addr)
		cancel()
		if e == nil && id != one.id {
			e = fmt.Errorf("%w: %s", session.ErrWrongDevice, id.Short())
		}
		if err = e; e != nil {
			continue
		}
		addrs[0], addrs[i] = addrs[i], addrs[0]
		t.mu.Lock()
		if t.all[one.place.String()] == one { // not removed meanwhile
			t.a.proved(sighting{key: one.key(), kind: kindManual, addrs: addrs}, id, hello)
		}
		t.mu.Unlock()
		return nil
	}
	return err
}

// add greets a place that a person typed and keeps it. A device that answers
// there is the one that is meant; nothing else is known of it.
func (t *typed) add(ctx context.Context, p place) (identity.DeviceID, error) {
	addrs, err := t.a.resolvePlace(ctx, p)
	if err != nil {
		return identity.DeviceID{}, err
	}
	var id identity.DeviceID
	var hello session.Hello
	var found int
	for found = range addrs {
		gctx, cancel := context.WithTimeout(ctx, greetTimeout)
		id, hello, err = t.a.sessions.Greet(gctx, addrs[found])
		cancel()
		if err == nil {
			break
		}
	}
	for _, known := range []error{session.ErrSelf, session.ErrBlocked, session.ErrRefused, session.ErrNotNigh} {
		if errors.Is(err, known) {
			return id, err
		}
	}
	if err != nil {
		return id, &control.Error{Code: control.CodeAway, Message: "nobody answers at " + p.String(), Hint: "check the address, that nigh runs there, and its firewall"}
	}
	addrs[0], addrs[found] = addrs[found], addrs[0]
	replaced, err := t.keep(p, id, addrs, hello)
	if err != nil {
		return id, err
	}
	if replaced {
		if err := t.bucket.Delete([]byte(p.String())); err != nil {
			t.a.log.Warn("Forgetting an address failed", "err", err)
		}
	}
	t.remember(id)
	return id, nil
}

// keep takes a place that was just greeted in, in the stead of another device that
// may have been there.
func (t *typed) keep(p place, id identity.DeviceID, addrs []netip.AddrPort, hello session.Hello) (replaced bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := &typedAddress{place: p, id: id, again: make(chan struct{}, 1)}
	old := t.all[p.String()]
	if old != nil && old.id == id {
		one = old
	} else {
		if old == nil && len(t.all) >= maxTyped && !t.dropOne() {
			return false, &control.Error{Code: control.CodeBusy, Message: fmt.Sprintf("%d addresses are kept already", maxTyped), Hint: "remove one: nigh peers remove ADDRESS"}
		}
		if old != nil {
			t.drop(old)
			replaced = true
		}
		t.all[p.String()] = one
		t.begin(one, true)
	}
	t.a.proved(sighting{key: one.key(), kind: kindManual, addrs: addrs}, id, hello)
	return replaced, nil
}

// dropOne makes room by forgetting an address of a stranger; t.mu is held.
func (t *typed) dropOne() bool {
	for _, one := range t.all {
		if t.a.trust.Standing(one.id) != trust.Trusted {
			t.drop(one)
			return true
		}
	}
	return false
}

// drop forgets one address in this run; t.mu is held.
func (t *typed) drop(one *typedAddress) {
	if one.end != nil {
		one.end()
	}
	delete(t.all, one.place.String())
	t.a.lose(one.key())
}

// remember keeps the addresses of a device for later runs when it is trusted.
func (t *typed) remember(id identity.DeviceID) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.a.trust.Standing(id) != trust.Trusted {
		return
	}
	for _, text := range t.of(id) {
		if err := t.bucket.Put([]byte(text), id); err != nil {
			t.a.log.Warn("Keeping an address failed", "peer", id.Short(), "err", err)
		}
	}
}

// of returns the texts of a device's places.
func (t *typed) of(id identity.DeviceID) (texts []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for text, one := range t.all {
		if one.id == id {
			texts = append(texts, text)
		}
	}
	return texts
}

// forget drops the addresses of a device that is trusted no more.
func (t *typed) forget(id identity.DeviceID) {
	t.remove(func(one *typedAddress) bool { return one.id == id })
}

// remove forgets the addresses that match, for good, and returns them.
func (t *typed) remove(match func(*typedAddress) bool) (removed []*typedAddress) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	for _, one := range t.all {
		if match(one) {
			t.drop(one)
			removed = append(removed, one)
		}
	}
	t.mu.Unlock()
	for _, one := range removed {
		if err := t.bucket.Delete([]byte(one.place.String())); err != nil {
			t.a.log.Warn("Forgetting an address failed", "peer", one.id.Short(), "err", err)
		}
	}
	return removed
}

// kick has everything greeted now: a link came or went.
func (t *typed) kick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.all {
		one.kick()
	}
}

// lost has the addresses of a device greeted now: its session ended.
func (t *typed) lost(id identity.DeviceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.all {
		if one.id == id {
			one.kick()
		}
	}
}

func (t *typedAddress) kick() {
	select {
	case t.again <- struct{}{}:
	default:
	}
}

// views returns all addresses for the faces, in their order.
func (t *typed) views() []control.Address {
	t.mu.Lock()
	all := make([]*typedAddress, 0, len(t.all))
	for _, one := range t.all {
		all = append(all, one)
	}
	t.mu.Unlock()
	views := []control.Address{}
	for _, one := range all {
		views = append(views, t.view(one))
	}
	sort.Slice(views, func(i, j int) bool {
		a, b := views[i], views[j]
		return cmp.Compare(a.Address, b.Address) < 0
	})
	return views
}

func (t *typed) view(one *typedAddress) control.Address {
	_, path := t.a.table.provedAt(one.key())
	return control.Address{
		Address: one.place.String(), ID: one.id.String(), Short: one.id.Short(), Name: t.a.peerName(one.id),
		Remembered: t.a.trust.Standing(one.id) == trust.Trusted, Answers: path,
	}
}

// connected reports whether a device has a session.
func (t *table) connected(id identity.DeviceID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	return p != nil && p.link.Connected
}

// Addresses implements [control.Backend].
func (b backend) Addresses(context.Context) ([]control.Address, error) {
	return b.a.typed.views(), nil
}

// ChangeAddress implements [control.Backend].
func (b backend) ChangeAddress(ctx context.Context, r control.AddressRequest) ([]control.Address, error) {
	p, isPlace, err := parsePlace(r.Address)
	if err != nil {
		return nil, err
	}
	switch r.Action {
	case "add":
		if !isPlace {
			return nil, &control.Error{Code: control.CodeUsage, Message: clean.Name(r.Address, 80) + " is no address", Hint: addressUsage}
		}
		if _, err := b.a.typed.add(ctx, p); err != nil {
			return nil, failed(err)
		}
		return slices.DeleteFunc(b.a.typed.views(), func(v control.Address) bool { return v.Address != p.String() }), nil
	case "remove":
		match := func(one *typedAddress) bool { return one.place.String() == p.String() }
		if !isPlace {
			t, err := b.a.resolve(r.Address)
			if err != nil {
				return nil, failed(err)
			}
			match = func(one *typedAddress) bool { return one.id == t.id && !t.id.IsZero() }
		}
		views := []control.Address{}
		for _, one := range b.a.typed.remove(match) {
			v := b.a.typed.view(one)
			v.Remembered, v.Answers = false, false
			views = append(views, v)
		}
		if len(views) == 0 {
			return nil, &control.Error{Code: control.CodeNotFound, Message: "no address is kept for " + clean.Name(strings.TrimSpace(r.Address), 80), Hint: "nigh peers addresses lists them"}
		}
		return views, nil
	}
	return nil, &control.Error{Code: control.CodeUsage, Message: "unknown action " + clean.Text(r.Action)}
}
