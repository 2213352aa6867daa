package transfer

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// near reports whether two amounts differ by at most a twentieth.
func near(got, want int64) bool { return 20*(got-want) <= want && 20*(want-got) <= want }

// A device with four requests gets as much of the rate of all as one with a single request; the rates change while bytes move.
func TestGatesShareAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newValve(1_000_000)
		stop := make(chan struct{})
		move := func(g *gate, requests int) *atomic.Int64 {
			moved := new(atomic.Int64)
			for range requests {
				go func() {
					for {
						n := g.piece(256 << 10)
						if !g.pass(stop, n) {
							return
						}
						moved.Add(int64(n))
					}
				}()
			}
			return moved
		}
		busy := gate{make(chan struct{}, 1), newValve(0), all}
		single := gate{make(chan struct{}, 1), newValve(0), all}
		slow := gate{make(chan struct{}, 1), newValve(100_000), all}
		a, b, c := move(&busy, 4), move(&single, 1), move(&slow, 2)
		check := func(seconds, wantA, wantB, wantC int64) {
			t.Helper()
			a.Store(0)
			b.Store(0)
			c.Store(0)
			time.Sleep(time.Duration(seconds) * time.Second)
			if gotA, gotB, gotC := a.Load()/seconds, b.Load()/seconds, c.Load()/seconds; !near(gotA, wantA) || !near(gotB, wantB) || !near(gotC, wantC) {
				t.Errorf("%d, %d and %d bytes a second, want %d, %d and %d", gotA, gotB, gotC, wantA, wantB, wantC)
			}
		}
		time.Sleep(time.Second)
		check(60, 450_000, 450_000, 100_000)
		all.set(200_000)
		time.Sleep(time.Second)
		check(60, 66_667, 66_667, 66_667)
		all.set(0)
		busy.own.set(2_000_000)
		single.own.set(50_000)
		time.Sleep(time.Second)
		check(60, 2_000_000, 50_000, 100_000)
		close(stop)
		synctest.Wait() // nobody waits any more, whatever the rate
	})
}

// From the lowest rate to a hundred megabytes a second the pieces add up, and none is larger than what a cancel may wait for.
func TestValveRates(t *testing.T) {
	for _, bytes := range []int64{1, MinRate, 500_000, 10_000_000, 100_000_000} {
		synctest.Test(t, func(t *testing.T) {
			v := newValve(bytes)
			g := gate{make(chan struct{}, 1), v, newValve(0)}
			stop := time.NewTimer(time.Minute)
			var moved, largest int64
			for moving := true; moving; {
				n := g.piece(1 << 20)
				g.pass(nil, n)
				moved, largest = moved+int64(n), max(largest, int64(n))
				select {
				case <-stop.C:
					moving = false
				default:
				}
			}
			if want := max(bytes, MinRate); !near(moved/60, want) || largest > maxPiece || largest > want/4 {
				t.Errorf("%d bytes a second in pieces of %d, want %d", moved/60, largest, want)
			}
		})
	}
}
