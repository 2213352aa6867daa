package transfer

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A steady makes Go's runtime leave system calls alone while content moves. To read, send or write a group takes 50 to 100 µs in the
// kernel. When no other of the runtime's processors is idle, its watcher (sysmon) hands that of a thread in a call to another thread after
// 20 µs, and it looks every 20 µs as long as it does so, and for some milliseconds after all were idle. On two processors each agent was
// woken 10,000 times a second by that, which cost a tenth of a transfer's rate. So while something moves there are more processors than
// the machine has, and a goroutine that is in a call most of the time keeps them from being all idle.
type steady struct {
	mu     sync.Mutex
	moving int // requests and pulls
	on     bool
}

// procs guards the number of the runtime's processors, which is one for all engines of the process.
var procs sync.Mutex

// moves says that content moves until the function that it returns is called.
func (e *Engine) moves() (end func()) {
	s := &e.steady
	s.mu.Lock()
	s.moving++
	begin := !s.on
	s.on = true
	s.mu.Unlock()
	if begin {
		e.mu.Lock()
		started := e.start(s.hold)
		e.mu.Unlock()
		if !started {
			s.mu.Lock()
			s.on = false
			s.mu.Unlock()
		}
	}
	return func() {
		s.mu.Lock()
		s.moving--
		s.mu.Unlock()
	}
}

// hold is the task that lasts until nothing has moved for a while.
func (s *steady) hold(ctx context.Context) {
	addProcs(spareProcs)
	defer addProcs(-spareProcs)
	for still := time.Duration(0); ; still += steadyCall {
		s.mu.Lock()
		if s.moving > 0 {
			still = 0
		}
		if still >= steadyAfter || ctx.Err() != nil {
			s.on = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		call := unix.NsecToTimespec(steadyCall.Nanoseconds())
		_ = unix.Nanosleep(&call, nil) // a system call, as time.Sleep is none
		runtime.Gosched()              // else the watcher takes it for one that does not give way
	}
}

func addProcs(n int) {
	procs.Lock()
	defer procs.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}
