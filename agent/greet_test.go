package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
)

// greetings is a prover whose greetings are counted by address.
type greetings struct {
	*prover
	answers map[netip.AddrPort]identity.DeviceID // after 20 ms; who is not in it is silent

	mu    sync.Mutex
	tries map[netip.AddrPort]int              // guarded by mu
	met   map[identity.DeviceID]time.Duration // guarded by mu
	began time.Time
}

func newGreetings() *greetings {
	g := &greetings{
		answers: map[netip.AddrPort]identity.DeviceID{}, tries: map[netip.AddrPort]int{},
		met: map[identity.DeviceID]time.Duration{}, began: time.Now(),
	}
	g.prover = newProver(slog.New(slog.DiscardHandler), func(ctx context.Context, a netip.AddrPort) (identity.DeviceID, session.Hello, error) {
		g.mu.Lock()
		g.tries[a]++
		g.mu.Unlock()
		if id, ok := g.answers[a]; ok && wait(ctx, 20*time.Millisecond) {
			return id, session.Hello{}, nil
		}
		<-ctx.Done()
		return identity.DeviceID{}, session.Hello{}, errors.New("silence")
	}, func(_ sighting, id identity.DeviceID, _ session.Hello) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if _, ok := g.met[id]; !ok {
			g.met[id] = time.Since(g.began)
		}
	})
	return g
}

func (g *greetings) tried(a string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tries[netip.MustParseAddrPort(a)]
}

func (g *greetings) when(id identity.DeviceID) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, ok := g.met[id]
	return d, ok
}

// near is a stranger on a LAN.
func near(id identity.DeviceID, addrs ...string) sighting {
	s := on(id.String(), kindLAN, "eth0", addrs...)
	s.ifindex, s.short, s.source = 2, id.Short(), s.addrs[0].Addr()
	return s
}

// Who greets us need not be greeted, whether it was sighted before or is after. What
// it says of itself counts only for what is at its own address.
func TestWhoGreetsUsIsProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGreetings()
		defer g.close()
		before, after, other := near(someID(1), "[fe80::1%eth0]:7421", "10.0.0.1:7421"), near(someID(2), "10.0.0.2:7421"), near(someID(3), "10.0.0.3:7421")
		g.see(t.Context(), near(someID(9), "10.0.0.9:7421"))
		time.Sleep(arrival) // who was here when we came is greeted at once
		g.see(t.Context(), before)
		g.see(t.Context(), other)
		if !g.settle("eth0", netip.MustParseAddrPort("[fe80::1]:7421"), someID(1), session.Hello{}) {
			t.Error("the zone of an address decides who it is")
		}
		if g.settle("eth0", netip.MustParseAddrPort("10.0.0.2:7421"), someID(2), session.Hello{}) ||
			g.settle("eth0", netip.MustParseAddrPort("10.0.0.3:7421"), someID(66), session.Hello{}) ||
			g.settle("eth1", netip.MustParseAddrPort("10.0.0.3:7421"), someID(3), session.Hello{}) {
			t.Error("somebody was settled who is not there, is another device, or on another link")
		}
		g.see(t.Context(), after)
		time.Sleep(time.Minute)
		for _, id := range []identity.DeviceID{someID(1), someID(2)} {
			if _, ok := g.when(id); !ok {
				t.Errorf("%s is not proved", id.Short())
			}
		}
		if _, ok := g.when(someID(3)); ok {
			t.Error("a device is proved that nobody met")
		}
		if n := g.tried("10.0.0.1:7421") + g.tried("[fe80::1%eth0]:7421") + g.tried("10.0.0.2:7421"); n != 0 {
			t.Errorf("devices that greeted us were greeted %d times", n)
		}
	})
}

// Who comes to a link greets all at once; those who were there wait a moment for it,
// and greet it when it does not.
func TestTheNewcomerGreets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGreetings()
		defer g.close()
		g.answers[netip.MustParseAddrPort("10.0.0.1:7421")] = someID(1)
		g.answers[netip.MustParseAddrPort("10.0.0.2:7421")] = someID(2)
		g.answers[netip.MustParseAddrPort("10.0.0.3:7421")] = someID(3)
		g.see(t.Context(), near(someID(1), "10.0.0.1:7421"))
		synctest.Wait()
		if g.tried("10.0.0.1:7421") != 1 {
			t.Error("the newcomer does not greet at once")
		}
		time.Sleep(time.Hour)
		g.mu.Lock()
		g.began = time.Now()
		g.mu.Unlock()
		g.see(t.Context(), near(someID(2), "10.0.0.2:7421"))
		friend := near(someID(3), "10.0.0.3:7421")
		friend.known = true
		g.see(t.Context(), friend)
		time.Sleep(time.Minute)
		if d, ok := g.when(someID(2)); !ok || d < patienceMin || d > patienceMax+time.Second {
			t.Errorf("a newcomer that does not greet was met: %t, after %v", ok, d)
		}
		if d, ok := g.when(someID(3)); !ok || d > 100*time.Millisecond {
			t.Errorf("who says to be trusted was met: %t, after %v", ok, d)
		}
		// When all are gone, we are the newcomer again.
		for _, id := range []identity.DeviceID{someID(1), someID(2), someID(3)} {
			g.gone(id.String())
		}
		g.see(t.Context(), near(someID(1), "10.0.0.1:7421"))
		synctest.Wait()
		if g.tried("10.0.0.1:7421") != 2 {
			t.Error("after a lonely time nobody is greeted at once")
		}
	})
}

// Nothing is greeted again without a reason: not for other words of an announcement,
// not for a further address; but for another device, and where the old address is gone.
func TestNobodyIsGreetedAgainWithoutReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGreetings()
		defer g.close()
		for _, a := range []string{"10.0.0.1:7421", "10.0.0.11:7421"} {
			g.answers[netip.MustParseAddrPort(a)] = someID(1)
		}
		s := near(someID(1), "10.0.0.1:7421")
		see := func(s sighting) int {
			g.see(t.Context(), s)
			time.Sleep(time.Minute)
			return g.tried("10.0.0.1:7421") + g.tried("10.0.0.11:7421")
		}
		if n := see(s); n != 1 {
			t.Fatalf("greeted %d times", n)
		}
		if n := see(s) + see(near(someID(1), "10.0.0.1:7421", "10.0.0.11:7421")); n != 2 {
			t.Errorf("greeted %d times in vain", n-2)
		}
		if n := see(near(someID(1), "10.0.0.11:7421")); n != 2 {
			t.Errorf("greeted %d times after its address went, want 2", n)
		}
		other := near(someID(1), "10.0.0.11:7421")
		other.short = someID(5).Short()
		if n := see(other); n != 3 {
			t.Errorf("greeted %d times after it said to be another, want 3", n)
		}
	})
}

// A stranger announces the short ID of a trusted device as often as there is room for,
// at addresses where nobody answers. The device itself is met within a second, also
// while some of its own addresses are silent.
func TestForgedShortIDsDoNotStarveTheRealDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGreetings()
		defer g.close()
		friend := someID(1)
		g.answers[netip.MustParseAddrPort("10.0.0.1:7421")] = friend
		for i := range uint32(500) {
			forged := near(someID(1000+i), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 7421).String())
			forged.known, forged.short, forged.source = true, friend.Short(), netip.MustParseAddr("10.0.0.66")
			g.see(t.Context(), forged)
		}
		time.Sleep(time.Minute)
		g.mu.Lock()
		g.began = time.Now()
		g.mu.Unlock()
		real := near(friend, "10.0.0.200:7421", "10.0.0.1:7421")
		real.known, real.source = true, netip.MustParseAddr("10.0.0.1")
		g.see(t.Context(), real)
		time.Sleep(10 * time.Second)
		if d, ok := g.when(friend); !ok || d > time.Second {
			t.Errorf("the trusted device was met: %t, after %v", ok, d)
		}
	})
}
