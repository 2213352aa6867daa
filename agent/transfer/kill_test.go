package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/identity"
)

// The child process of TestRandomKills: a device at a fixed address that sends once, or receives, and prints the states of its transfer.
func TestEnd(t *testing.T) {
	name := os.Getenv("NIGH_TEST_NAME")
	if name == "" {
		t.Skip("only as a child of TestRandomKills")
	}
	peer := identity.DeviceID(sha256.Sum256([]byte(os.Getenv("NIGH_TEST_PEER_NAME"))))
	b := newBed(t)
	b.listen = os.Getenv("NIGH_TEST_LISTEN")
	b.remote[peer] = "http://" + os.Getenv("NIGH_TEST_PEER")
	d := b.deviceIn(name, os.Getenv("NIGH_TEST_DIR"), func(c *Config) {
		acceptAll(c)
		changed := c.Changed
		c.Changed = func(tr Transfer) {
			changed(tr)
			fmt.Printf("state %s %s\n", tr.State, tr.ErrorCode)
		}
	})
	// Slow enough to be killed in the middle.
	d.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
		<-time.After(10 * time.Millisecond)
		return p, nil
	})
	if path := os.Getenv("NIGH_TEST_SEND"); path != "" && len(d.Transfers()) == 0 {
		if _, err := d.Send(context.Background(), SendRequest{Paths: []string{path}, To: []identity.DeviceID{peer}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tr := range d.Transfers() {
		fmt.Printf("now %s %s\n", tr.State, tr.ErrorCode)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	// As the agent does when a session with the peer is there.
	for {
		select {
		case <-end:
			return
		case <-time.After(50 * time.Millisecond):
			d.Wake(peer)
		}
	}
}

// An end is a device in a process that is killed and started again.
type end struct {
	t    *testing.T
	env  []string
	cmd  *exec.Cmd
	in   io.Closer
	mu   sync.Mutex
	last string
	news chan string
	read sync.WaitGroup
}

func (e *end) start() {
	e.t.Helper()
	e.cmd = exec.Command(os.Args[0], "-test.run=^TestEnd$")
	e.cmd.Env = append(os.Environ(), e.env...)
	in, err := e.cmd.StdinPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	e.in = in
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.read.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			word, state, _ := strings.Cut(lines.Text(), " ")
			if word == "state" || word == "now" {
				e.mu.Lock()
				e.last = state
				e.mu.Unlock()
			}
			if word == "state" {
				select {
				case e.news <- state:
				default:
				}
			}
			if strings.Contains(lines.Text(), "FAIL") || strings.Contains(lines.Text(), "panic") {
				e.t.Errorf("a child says: %s", lines.Text())
			}
		}
	})
}

func (e *end) kill() {
	_ = e.cmd.Process.Kill()
	e.read.Wait()
	_ = e.cmd.Wait()
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Both sides are killed with -9 at random moments, many times, also while final names are given. In the end everything is equal, once.
func TestRandomKills(t *testing.T) {
	if testing.Short() {
		t.Skip("short: many processes")
	}
	src := filepath.Join(t.TempDir(), "batch")
	total := mixed(t, src, 1500)
	a, b := freeAddress(t), freeAddress(t)
	device := func(name, listen, peerName, peer, send string) *end {
		e := &end{t: t, news: make(chan string, 1000), env: []string{"NIGH_TEST_NAME=" + name, "NIGH_TEST_LISTEN=" + listen,
			"NIGH_TEST_PEER_NAME=" + peerName, "NIGH_TEST_PEER=" + peer, "NIGH_TEST_DIR=" + t.TempDir(), "NIGH_TEST_SEND=" + send}}
		e.start()
		return e
	}
	alice, bob := device("alice", a, "bob", b, src), device("bob", b, "alice", a, "")
	inbox := filepath.Join(strings.TrimPrefix(bob.env[4], "NIGH_TEST_DIR="), "inbox")
	kills, late := 0, 0
	for kills < 20 {
		bob.mu.Lock()
		if strings.HasPrefix(bob.last, "done") {
			late++
		}
		bob.mu.Unlock()
		select {
		case <-time.After(time.Duration(20+rand.IntN(400)) * time.Millisecond):
		case state := <-bob.news:
			// Just before and after the final name is given is when it hurts most.
			if !strings.HasPrefix(state, "verifying") && !strings.HasPrefix(state, "done") {
				continue
			}
		}
		victims := []*end{alice, bob}
		rand.Shuffle(2, func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		for _, e := range victims[:1+rand.IntN(2)] {
			e.kill()
			e.start()
			kills++
		}
	}
	deadline := time.After(60 * time.Second)
	for ended := false; !ended; {
		alice.mu.Lock()
		bob.mu.Lock()
		ended = strings.HasPrefix(alice.last, "done") && strings.HasPrefix(bob.last, "done")
		state := fmt.Sprintf("sender %s, receiver %s", alice.last, bob.last)
		bob.mu.Unlock()
		alice.mu.Unlock()
		select {
		case <-alice.news:
		case <-bob.news:
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			t.Fatal(state)
		}
	}
	t.Logf("%d bytes, %d kills, before the last %d it was done", total, kills, late)
	if late > kills/2 {
		t.Error("most kills came too late to mean anything")
	}
	same(t, src, filepath.Join(inbox, "batch"))
	if entries, err := os.ReadDir(inbox); err != nil || len(entries) != 1 {
		t.Errorf("the inbox holds %v, %v", entries, err)
	}
	for _, e := range []*end{alice, bob} {
		_ = e.in.Close()
		e.read.Wait()
		if err := e.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
