package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/discovery"
)

func TestProverRetriesUntilSomebodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tries := map[netip.AddrPort]int{} // guarded by mu
		proved := make(chan identity.DeviceID, 1)
		good := netip.MustParseAddrPort("10.0.0.2:7421")
		p := newProver(slog.New(slog.DiscardHandler), func(_ context.Context, a netip.AddrPort) (identity.DeviceID, session.Hello, error) {
			mu.Lock()
			defer mu.Unlock()
			tries[a]++
			if a == good && tries[a] == 3 {
				return someID(9), session.Hello{}, nil
			}
			return identity.DeviceID{}, session.Hello{}, errors.New("refused")
		}, func(_ sighting, id identity.DeviceID, _ session.Hello) { proved <- id })
		p.see(t.Context(), on("x", kindLAN, "eth0", "10.0.0.1:7421", good.String()))
		if id := <-proved; id != someID(9) {
			t.Errorf("proved %v", id)
		}
		p.close()
	})
}

func TestProverEndsWithTheSighting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProver(slog.New(slog.DiscardHandler), func(ctx context.Context, _ netip.AddrPort) (identity.DeviceID, session.Hello, error) {
			<-ctx.Done()
			return identity.DeviceID{}, session.Hello{}, ctx.Err()
		}, func(sighting, identity.DeviceID, session.Hello) { t.Error("proved") })
		for range 3 {
			p.see(t.Context(), on("x", kindLAN, "eth0", "10.0.0.1:7421"))
			time.Sleep(10 * time.Second) // the bubble's clock
		}
		p.gone("x")
		p.close()
		if p.see(t.Context(), on("y", kindLAN, "eth0", "10.0.0.1:7421")) {
			t.Error("a closed prover took work")
		}
	})
}

func TestProverIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most, now atomic.Int32
		p := newProver(slog.New(slog.DiscardHandler), func(ctx context.Context, _ netip.AddrPort) (identity.DeviceID, session.Hello, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-ctx.Done()
			now.Add(-1)
			return identity.DeviceID{}, session.Hello{}, ctx.Err()
		}, func(sighting, identity.DeviceID, session.Hello) {})
		p.most = 50
		taken := 0
		for i := range p.most + 10 {
			if p.see(t.Context(), on(someID(uint32(i)).String(), kindLAN, "eth0", "10.0.0.1:7421")) {
				taken++
			}
		}
		synctest.Wait()
		p.close()
		if taken != p.most || most.Load() > greetsAtOnce {
			t.Errorf("%d sightings taken, %d greetings at once", taken, most.Load())
		}
	})
}

// A thousand announcements of nobody must not keep real devices from being met.
func TestProverServesTheRealAmongForged(t *testing.T) {
	// Go 1.26's race detector crashes ("CHECK failed: tsan_rtl.cpp") when several
	// processors run many timers of one bubble.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		friend, elsewhere, stranger := someID(1), someID(2), someID(3)
		address := func(id identity.DeviceID) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, id[3]}), 7421)
		}
		answers := map[netip.AddrPort]identity.DeviceID{address(friend): friend, address(elsewhere): elsewhere, address(stranger): stranger}
		began := time.Now()
		met := map[identity.DeviceID]time.Duration{}
		p := newProver(slog.New(slog.DiscardHandler), func(ctx context.Context, a netip.AddrPort) (identity.DeviceID, session.Hello, error) {
			if id, ok := answers[a]; ok {
				select {
				case <-time.After(20 * time.Millisecond):
					return id, session.Hello{}, nil
				case <-ctx.Done():
				}
			}
			<-ctx.Done()
			return identity.DeviceID{}, session.Hello{}, ctx.Err()
		}, func(_ sighting, id identity.DeviceID, _ session.Hello) { met[id] = time.Since(began) })
		p.most = 200 // more make -race slow
		near := func(id identity.DeviceID, ifname string, index int, known bool) {
			s := on(id.String(), kindLAN, ifname, address(id).String())
			s.ifindex, s.known = index, known
			if !p.see(t.Context(), s) {
				t.Errorf("no room for %s", id.Short())
			}
		}
		for i := range uint32(2 * p.most) {
			s := on(someID(1000+i).String(), kindLAN, "eth0", "10.0.0.9:7421")
			s.ifindex = 2
			p.see(t.Context(), s)
		}
		time.Sleep(time.Minute) // the bubble's clock
		synctest.Wait()
		began = time.Now()
		near(friend, "eth0", 2, true)
		near(elsewhere, "eth1", 3, false)
		near(stranger, "eth0", 2, false)
		time.Sleep(2 * time.Minute)
		p.close()
		for id, most := range map[identity.DeviceID]time.Duration{friend: time.Second, elsewhere: time.Second, stranger: time.Minute} {
			if d, ok := met[id]; !ok || d > most {
				t.Errorf("%s was met: %t, after %v, want at most %v", id.Short(), ok, d, most)
			}
		}
	})
}

// What is gone is not proved afterwards, or it would stay for ever.
func TestProverProvesNothingThatIsGone(t *testing.T) {
	for range 200 {
		attached := false // without a lock of its own: -race sees when the order is not kept
		answered := make(chan struct{})
		p := newProver(slog.New(slog.DiscardHandler), func(context.Context, netip.AddrPort) (identity.DeviceID, session.Hello, error) {
			close(answered)
			return someID(1), session.Hello{}, nil
		}, func(sighting, identity.DeviceID, session.Hello) { attached = true })
		p.see(t.Context(), on("x", kindLAN, "eth0", "10.0.0.1:7421"))
		<-answered
		p.gone("x")
		attached = false // the table forgets it
		p.close()
		if attached {
			t.Fatal("a sighting was proved after it was gone")
		}
	}
}

func TestInstanceKey(t *testing.T) {
	key := func(instance, host string) string {
		return instanceKey(discovery.Event{Index: 2, Instance: instance, Host: host})
	}
	if key("Bob [A]", "nigh-a.local") != key("bOB [a]", "NIGH-A.local") {
		t.Error("a changed case makes another sighting, and the first is never taken away")
	}
	if key("a/b", "c") == key("a", "b/c") || key(`a"/"b`, "c") == key("a", `b"/"c`) {
		t.Error("two instances share a key")
	}
}
