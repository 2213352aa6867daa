package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/identity"
	"nigh/agent/session"
)

func TestProverRetriesUntilSomebodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := map[netip.AddrPort]int{}
		proved := make(chan identity.DeviceID, 1)
		good := netip.MustParseAddrPort("10.0.0.2:7421")
		p := newProver(slog.New(slog.DiscardHandler), func(_ context.Context, a netip.AddrPort) (identity.DeviceID, session.Hello, error) {
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
