//go:build radio

package wpa

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/lab/radio"
)

// insider is a process of the test program in the namespace of a node, as an agent is: it sees the node's interfaces and switches.
type insider struct {
	t    *testing.T
	said chan string // lines that the process prints
	done chan error
}

// goInside runs the test of that name again inside a node.
func goInside(t *testing.T, n *radio.Node, name string) *insider {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit)
	t.Cleanup(cancel)
	cmd := n.Command(ctx, self, "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(cmd.Environ(), insideEnv+"="+n.Bus)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i := &insider{t: t, said: make(chan string, 1024), done: make(chan error, 1)}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			i.said <- s.Text()
		}
		close(i.said)
		i.done <- cmd.Wait()
	}()
	return i
}

// await waits for a line that begins with text.
func (i *insider) await(text string) {
	i.t.Helper()
	deadline := time.After(2 * limit)
	for {
		select {
		case line, more := <-i.said:
			i.t.Logf("inside: %s", line)
			if strings.HasPrefix(line, text) {
				return
			}
			if !more {
				i.t.Fatalf("the process inside ended without %q: %v", text, <-i.done)
			}
		case <-deadline:
			i.t.Fatalf("the process inside does not say %q", text)
		}
	}
}

// end waits for the process and fails when its test did.
func (i *insider) end() {
	i.t.Helper()
	for line := range i.said {
		i.t.Logf("inside: %s", line)
	}
	if err := <-i.done; err != nil {
		i.t.Fatalf("inside: %v", err)
	}
}

// insideStation is a station in this process, which is inside its node.
func insideStation(t *testing.T, bus string, cfg Config) *station {
	t.Helper()
	return newStation(t, &radio.Node{Name: "inside", Bus: bus}, cfg)
}

// TestBehaviour22Rfkill: the switch ends a group at once, commands fail while it is off, and what is wanted goes on when it is on
// again. The same for a sleep of the machine.
func TestBehaviour22Rfkill(t *testing.T) {
	if bus := os.Getenv(insideEnv); bus != "" {
		s := insideStation(t, bus, Config{DeviceName: "inside"})
		t.Run("in a group", func(t *testing.T) { switchInGroup(t, s) })
		t.Run("in a search", func(t *testing.T) { switchInSearch(t, s) })
		t.Run("sleep", func(t *testing.T) { sleep(t, s) })
		return
	}
	nodes := radio.Nodes(t, 2)
	b := newStation(t, nodes[1], Config{DeviceName: "other"})
	if err := b.Listen(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	goInside(t, nodes[0], t.Name()).end()
}

func switchInGroup(t *testing.T, s *station) {
	g, err := s.StartGroup(t.Context(), GroupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	soft := softSwitch(t, phyOf(s.Status().Ifname))
	mark, begin := s.mark(), time.Now()
	turn(t, soft, "1")
	gone := s.awaitGone(mark)
	within(t, "gone", begin, time.Second)
	if gone.Reason != ReasonRadioOff || gone.Group.ID != g.ID {
		t.Errorf("group is gone: %+v", gone)
	}
	s.awaitState(Off)
	if st := s.Status(); !errors.Is(st.Err, ErrRadioOff) || st.Hint == "" || len(st.Groups) != 0 {
		t.Errorf("status is %+v", st)
	}
	begin = time.Now()
	_, err = s.StartGroup(t.Context(), GroupOptions{})
	mustFail(t, "start group", err, ErrRadioOff)
	mustFail(t, "find", s.Find(t.Context(), time.Second), ErrRadioOff)
	_, err = s.Connect(t.Context(), fakePeer, PBC(), ConnectOptions{})
	mustFail(t, "connect", err, ErrRadioOff)
	within(t, "three commands refused", begin, time.Second/4)
	for _, f := range Diagnose(t.Context(), Config{Bus: s.node.Bus}) {
		if f.ID == "rfkill" && (f.State != Fail || f.Fix == "") {
			t.Errorf("finding %+v", f)
		}
	}
	turn(t, soft, "0")
	s.awaitState(Ready)
	s.findName("other")
	if err := s.StopFind(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StartGroup(t.Context(), GroupOptions{}); err != nil {
		t.Errorf("after the switch is on again: %v", err)
	}
	leaveAll(s)
}

func switchInSearch(t *testing.T, s *station) {
	if err := s.Find(t.Context(), 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	soft := softSwitch(t, phyOf(s.Status().Ifname))
	turn(t, soft, "1")
	s.awaitState(Off)
	if s.Status().Finding {
		t.Error("it says that it is finding")
	}
	mark := s.mark()
	turn(t, soft, "0")
	s.await(mark, "search again", func(Event) bool { st := s.Status(); return st.State == Ready && st.Finding })
	freshlyHere(t, s, "other")
	if err := s.StopFind(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// freshlyHere waits until a search that is going on sees a device.
func freshlyHere(t *testing.T, s *station, name string) {
	t.Helper()
	begin, deadline := time.Now(), time.After(limit)
	for {
		for _, p := range s.Peers() {
			if p.Name == name && p.Seen.After(begin) {
				t.Logf("seen %.1f s later", time.Since(begin).Seconds())
				return
			}
		}
		select {
		case <-time.After(100 * time.Millisecond): // to be seen again unchanged is no event
		case <-deadline:
			t.Fatalf("%s is not seen", name)
		}
	}
}

// sleep cannot be had of the guest, whose root folder would not outlive it. What the kernel does to the timer when it wakes up is had by
// setting the clock; that the machine slept meanwhile is made up.
func sleep(t *testing.T, s *station) {
	var fake atomic.Int64
	w := watchSleep()
	if w == nil {
		t.Fatal("no timer that tells of leaps of the clock")
	}
	w.slept = func() time.Duration { return time.Duration(fake.Load()) }
	woke := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(func() {
			s.in.command((*machine).woke)
			woke <- struct{}{}
		})
	}()
	leap := func() {
		t.Helper()
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
		now.Sec++
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
	}
	leap()
	if err := s.Find(t.Context(), 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	select {
	case <-woke:
		t.Error("a clock that was set was taken for a sleep")
	case <-time.After(500 * time.Millisecond):
	}
	fake.Store(int64(time.Hour))
	mark := s.mark()
	leap()
	select {
	case <-woke:
	case <-time.After(limit):
		t.Fatal("a sleep went unnoticed")
	}
	// It goes on with what is wanted, and knows what is there.
	freshlyHere(t, s, "other")
	if !s.Status().Finding || s.count(mark, func(e Event) bool { _, ok := e.(PeerLost); return ok }) != 0 {
		t.Errorf("status is %+v", s.Status())
	}
	w.close()
	<-ended
}
