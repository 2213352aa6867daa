package transfer

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// TestSteady holds more of the runtime's processors while something moves, gives them back soon after it does not, and at once when the
// engine ends.
func TestSteady(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	e := &Engine{run: ctx}
	// settles waits until so many processors are held.
	settles := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); runtime.GOMAXPROCS(0) != n; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d processors, not %d", runtime.GOMAXPROCS(0), n)
			}
		}
	}
	first, second := e.moves(), e.moves()
	settles(was + spareProcs)
	first()
	second()
	e.tasks.Wait()
	settles(was)
	third := e.moves() // begins anew
	settles(was + spareProcs)
	stop()
	e.tasks.Wait()
	settles(was)
	third()
	e.moves()() // the engine has ended: nothing is begun
	e.tasks.Wait()
	if e.steady.on || e.steady.moving != 0 {
		t.Errorf("left behind: %+v", e.steady.moving)
	}
}
