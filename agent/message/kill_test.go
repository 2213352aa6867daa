package message

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The child process of TestRandomKills: a device at a fixed address that writes messages to another one, and says which.
func TestEnd(t *testing.T) {
	name := os.Getenv("NIGH_TEST_NAME")
	if name == "" {
		t.Skip("only as a child of TestRandomKills")
	}
	b := newBed(t)
	b.listen = os.Getenv("NIGH_TEST_LISTEN")
	peer := &device{id: idOf(os.Getenv("NIGH_TEST_PEER_NAME"))}
	b.remote[peer.id] = os.Getenv("NIGH_TEST_PEER")
	d := b.deviceIn(name, os.Getenv("NIGH_TEST_DIR"))
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	first, _ := strconv.Atoi(os.Getenv("NIGH_TEST_FIRST"))
	quiet, idle := os.Getenv("NIGH_TEST_QUIET") != "", false
	for n := first; ; n++ {
		select {
		case <-end:
			fmt.Printf("received %s\n", strings.Join(d.texts(), ","))
			return
		case <-time.After(2 * time.Millisecond):
		}
		if quiet && !idle && len(d.WaitingFor()) == 0 {
			idle = true
			fmt.Println("idle")
		}
		if !quiet && len(d.IDs("m")) < maxHistory/4 {
			if _, err := d.Send(d.bed.only(peer), strconv.Itoa(n)); err == nil {
				fmt.Printf("wrote %d\n", n)
			}
		}
		d.Wake(peer.id) // as the agent does when a session with the peer is there
	}
}

// An end is a device in a process that is killed and started again.
type end struct {
	t     *testing.T
	env   []string
	cmd   *exec.Cmd
	in    io.Closer
	read  chan struct{}
	next  int               // the number of its next message
	wrote []int             // the messages that were on its disk for certain
	idle  chan struct{}     // closed when nothing waits any more
	last  map[string]string // read it when the child is over
}

func (e *end) start(more ...string) {
	e.t.Helper()
	e.cmd = exec.Command(os.Args[0], "-test.run=^TestEnd$")
	e.cmd.Env = append(append(os.Environ(), e.env...), append(more, "NIGH_TEST_FIRST="+strconv.Itoa(e.next))...)
	in, err := e.cmd.StdinPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.in, e.read, e.idle = in, make(chan struct{}), make(chan struct{})
	read, idle := e.read, e.idle
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			word, value, _ := strings.Cut(lines.Text(), " ")
			if n, err := strconv.Atoi(value); word == "wrote" && err == nil {
				e.wrote = append(e.wrote, n)
				continue
			}
			if word == "idle" {
				close(idle)
			}
			e.last[word] = value
			if strings.Contains(lines.Text(), "FAIL") || strings.Contains(lines.Text(), "panic") {
				e.t.Errorf("a child says: %s", lines.Text())
			}
		}
	}()
}

func (e *end) kill() {
	_ = e.cmd.Process.Kill()
	e.over()
}

// stop ends the child in good order; it says what it has.
func (e *end) stop() {
	_ = e.in.Close()
	e.over()
}

func (e *end) over() {
	<-e.read
	_ = e.cmd.Wait()
	e.next += 10_000 // also one that was written and not said keeps its number
}

func (e *end) received() (numbers []int) {
	e.t.Helper()
	for field := range strings.SplitSeq(e.last["received"], ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			e.t.Fatalf("it received %q", field)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Both sides write to each other without a pause and are killed with -9 at random moments. In the end each has every message that
// was on the other's disk, once, in the order in which they were written.
func TestRandomKills(t *testing.T) {
	if testing.Short() {
		t.Skip("short: many processes")
	}
	a, b := freeAddress(t), freeAddress(t)
	device := func(name, listen, peerName, peer string) *end {
		e := &end{t: t, last: map[string]string{}, env: []string{"NIGH_TEST_NAME=" + name, "NIGH_TEST_LISTEN=" + listen,
			"NIGH_TEST_PEER_NAME=" + peerName, "NIGH_TEST_PEER=" + peer, "NIGH_TEST_DIR=" + t.TempDir()}}
		e.start()
		return e
	}
	ends := []*end{device("ada", a, "bob", b), device("bob", b, "ada", a)}
	const rounds = 20
	kills := 0
	for range rounds {
		<-time.After(time.Duration(50+rand.IntN(250)) * time.Millisecond)
		victims := slices.Clone(ends)
		rand.Shuffle(2, func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		for _, e := range victims[:1+rand.IntN(2)] {
			e.kill()
			e.start()
			kills++
		}
	}
	for _, e := range ends {
		e.kill()
		e.start("NIGH_TEST_QUIET=1")
	}
	deadline := time.After(2 * time.Minute)
	for _, e := range ends {
		select {
		case <-e.idle:
		case <-deadline:
			t.Fatal("messages still wait")
		}
	}
	for _, e := range ends {
		e.stop()
	}
	for i, e := range ends {
		got := ends[1-i].received()
		t.Logf("%d messages were said to be written, %d received, %d kills", len(e.wrote), len(got), kills)
		if !slices.IsSorted(got) {
			t.Errorf("the order is %v", got)
		}
		if n := len(slices.Compact(slices.Clone(got))); n != len(got) {
			t.Errorf("%d messages were received twice: %v", len(got)-n, got)
		}
		for _, n := range e.wrote {
			if !slices.Contains(got, n) {
				t.Errorf("message %d was written and never received", n)
			}
		}
		if len(e.wrote) < rounds {
			t.Errorf("only %d messages were written", len(e.wrote))
		}
	}
}
