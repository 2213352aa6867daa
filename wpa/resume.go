package wpa

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleepWatch notices that the machine was asleep. The kernel ends the wait for a timer that asks to be told of leaps of the wall
// clock when it wakes up, with a login service or without; whether it was asleep, and not only set, is told by the clock that goes on
// in sleep being ahead of the one that does not.
type sleepWatch struct {
	file  *os.File
	slept func() time.Duration // since the machine started, in all
}

// watchSleep is nil when the kernel has no such timer. What was missed in sleep then shows when the radio next says something.
func watchSleep() *sleepWatch {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil
	}
	w := &sleepWatch{os.NewFile(uintptr(fd), "sleep"), slept}
	if w.arm() != nil {
		w.close()
		return nil
	}
	return w
}

// arm sets the timer to a day that this process does not see.
func (w *sleepWatch) arm() error {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	never := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Now().AddDate(10, 0, 0).UnixNano())}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil)
	})
	return errors.Join(err, failed)
}

// slept is how long the machine has been asleep since it started.
func slept() time.Duration {
	var boot, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - awake.Nano())
}

// nap is the shortest sleep that counts; the two clocks are read one after the other.
const nap = 100 * time.Millisecond

// run calls woke after every sleep until close is called.
func (w *sleepWatch) run(woke func()) {
	before := w.slept()
	for {
		_, err := w.file.Read(make([]byte, 8))
		if err != nil && !errors.Is(err, unix.ECANCELED) {
			return
		}
		if now := w.slept(); now-before >= nap {
			before = now
			woke()
		}
		if err == nil && w.arm() != nil { // the day came
			return
		}
	}
}

func (w *sleepWatch) close() { _ = w.file.Close() }

// woke brings everything in line after a sleep, in which peers went and groups ended.
func (m *machine) woke() {
	m.log.Info("The machine was asleep")
	m.switched() // a switch may have been pressed meanwhile
	m.resync()
	m.resume()
}
