package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inside runs fn on a thread inside the network namespace that the file at path names, and returns fn's error. Sockets made
// by fn itself belong to the namespace for as long as they live, wherever they are used later; goroutines that fn starts are
// outside. It may be called from any goroutine, and needs CAP_SYS_ADMIN.
func Inside(path string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			// fn may end the goroutine by testing.TB.FailNow.
			select {
			case done <- errors.New("lab: function ended its goroutine"):
			default:
			}
		}()
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- fmt.Errorf("lab: own namespace: %w", err)
			return
		}
		defer home.Close()
		there, err := os.Open(path)
		if err != nil {
			done <- fmt.Errorf("lab: namespace: %w", err)
			return
		}
		defer there.Close()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("lab: enter namespace %s: %w", path, err)
			return
		}
		err = fn()
		// A thread that cannot go back stays locked, and ends with this goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
