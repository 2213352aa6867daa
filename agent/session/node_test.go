package session

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nigh/agent/identity"
	"nigh/agent/trust"
	"nigh/lab"
)

// A node is a device in a network namespace: the test binary run there, told what
// to do by lines on its standard input. Sockets belong to the namespace of the
// thread that makes them, so a device cannot share the process of the test.

// order is one line to a node.
type order struct {
	Op    string // "trust", "at", "hold", "release", "kick", "check", "close", "get", "inbound"
	ID    identity.DeviceID
	At    []Candidate
	Bulk  bool
	Path  string
	Token int
}

// news is one line from a node.
type news struct {
	Op        string // "ready", "state", "got"
	ID        identity.DeviceID
	Port      uint16
	Connected bool
	Path      Candidate
	RTT       time.Duration
	Err       string
	Token     int
	Status    int
	Body      string
	at        time.Time
}

// nodeMain is the program of a node.
func nodeMain() {
	id, err := identity.Load(os.Getenv("SESSION_TEST_NODE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	trusted := make(map[identity.DeviceID]bool)
	at := make(map[identity.DeviceID][]Candidate)
	out := json.NewEncoder(os.Stdout)
	say := func(n news) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(n)
	}
	s, err := New(Config{
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Identity: id,
		Standing: func(id identity.DeviceID) trust.Standing {
			mu.Lock()
			defer mu.Unlock()
			if trusted[id] {
				return trust.Trusted
			}
			return trust.New
		},
		Addresses: func(id identity.DeviceID) []Candidate {
			mu.Lock()
			defer mu.Unlock()
			return append([]Candidate(nil), at[id]...)
		},
		Changed: func(p PeerState) {
			n := news{Op: "state", ID: p.ID, Connected: p.Connected, Path: p.Path, RTT: p.RTT}
			if p.Err != nil {
				n.Err = p.Err.Error()
			}
			say(n)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/hang" { // a body that never ends
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, PeerFrom(r.Context()).Ifname)
		}),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	say(news{Op: "ready", ID: id.ID, Port: s.Port()})
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		switch o.Op {
		case "trust", "at":
			mu.Lock()
			if o.Op == "trust" {
				trusted[o.ID] = true
			} else {
				at[o.ID] = o.At
			}
			mu.Unlock()
		case "hold":
			s.Hold(o.ID)
		case "release":
			s.Release(o.ID)
		case "kick":
			s.Kick(o.ID)
		case "check":
			s.Check()
		case "close":
			s.Close(o.ID)
		case "inbound":
			go func() {
				outcome, ifname, err := s.CheckInbound(ctx, o.ID, netip.AddrPort{})
				n := news{Op: "got", ID: o.ID, Token: o.Token, Body: string(outcome) + " " + ifname}
				if err != nil {
					n.Err = err.Error()
				}
				say(n)
			}()
		case "get":
			go func() { say(fetch(s, o)) }()
		}
	}
	cancel()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fetch(s *Sessions, o order) news {
	n := news{Op: "got", ID: o.ID, Token: o.Token}
	client := s.Control(o.ID)
	if o.Bulk {
		client = s.Bulk(o.ID)
	}
	answer, err := client.Get("http://" + Host + o.Path)
	if err != nil {
		n.Err = err.Error()
		return n
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	n.Status, n.Body = answer.StatusCode, string(body)
	if err != nil {
		n.Err = err.Error()
	}
	return n
}

// node is the test's end of one.
type node struct {
	t     *testing.T
	host  *lab.Host
	id    identity.DeviceID
	port  uint16
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   chan news
	later []news
	token int
}

func startNode(t *testing.T, host *lab.Host) *node {
	t.Helper()
	n := &node{t: t, host: host, out: make(chan news, 256)}
	n.cmd = host.Command(context.Background(), os.Args[0])
	n.cmd.Env = append(os.Environ(), "SESSION_TEST_NODE="+t.TempDir())
	if testing.Verbose() {
		n.cmd.Stderr = os.Stderr
	}
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var v news
			if json.Unmarshal(lines.Bytes(), &v) == nil {
				v.at = time.Now()
				n.out <- v
			}
		}
	}()
	t.Cleanup(func() {
		_ = n.in.Close()
		_ = n.cmd.Process.Signal(syscall.SIGCONT)
		timer := time.AfterFunc(wait, func() { _ = n.cmd.Process.Kill() })
		defer timer.Stop()
		go func() {
			for range n.out { // so that the reader can end
			}
		}()
		<-read
		close(n.out)
		if err := n.cmd.Wait(); err != nil && n.cmd.ProcessState.ExitCode() > 0 {
			t.Errorf("node %s: %v", host.Name, err)
		}
	})
	ready := n.until("ready", 2*wait, func(v news) bool { return v.Op == "ready" })
	n.id, n.port = ready.ID, ready.Port
	return n
}

func (n *node) tell(o order) {
	n.t.Helper()
	if err := json.NewEncoder(n.in).Encode(o); err != nil {
		n.t.Fatal(err)
	}
}

// until returns the first news that ok accepts; states before it are dropped,
// other news are kept.
func (n *node) until(what string, d time.Duration, ok func(news) bool) news {
	n.t.Helper()
	for i, v := range n.later {
		if ok(v) {
			n.later = append(n.later[:i], n.later[i+1:]...)
			return v
		}
	}
	deadline := time.After(d)
	for {
		select {
		case v := <-n.out:
			if ok(v) {
				return v
			}
			if v.Op == "got" {
				n.later = append(n.later, v)
			}
		case <-deadline:
			n.t.Fatalf("%s: %s: not within %v", n.host.Name, what, d)
		}
	}
}

func (n *node) connected(kind string) news {
	n.t.Helper()
	return n.until("connected "+kind, 2*wait, func(v news) bool {
		return v.Op == "state" && v.Connected && (kind == "" || v.Path.Kind == kind)
	})
}

func (n *node) lost(within time.Duration) news {
	n.t.Helper()
	return n.until("lost", within, func(v news) bool { return v.Op == "state" && !v.Connected })
}

func (n *node) begin(to *node, bulk bool, path string) int {
	n.t.Helper()
	n.token++
	n.tell(order{Op: "get", ID: to.id, Bulk: bulk, Path: path, Token: n.token})
	return n.token
}

func (n *node) result(token int, within time.Duration) news {
	n.t.Helper()
	return n.until("answer", within, func(v news) bool { return v.Op == "got" && v.Token == token })
}

func (n *node) get(to *node, bulk bool) news {
	n.t.Helper()
	v := n.result(n.begin(to, bulk, "/v1/any"), 2*wait)
	if v.Err != "" || v.Status != http.StatusOK {
		n.t.Errorf("%s asks %s (bulk %v): %d %s", n.host.Name, to.host.Name, bulk, v.Status, v.Err)
	}
	return v
}

// at tells n where to is.
func (n *node) at(to *node, candidates ...Candidate) {
	n.t.Helper()
	n.tell(order{Op: "trust", ID: to.id})
	n.tell(order{Op: "at", ID: to.id, At: candidates})
}

func (n *node) candidate(kind, ifname, addr string) Candidate {
	cost := map[string]int{"direct": 0, "lan": 10}[kind]
	return Candidate{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), n.port), Kind: kind, Ifname: ifname, Cost: cost}
}

// linkLocal returns the address of a host's link with the zone of another's.
func linkLocal(t *testing.T, h *lab.Host, ifname, zone string) string {
	t.Helper()
	for _, word := range strings.Fields(h.IP("-6", "-o", "addr", "show", "dev", ifname, "scope", "link")) {
		if p, err := netip.ParsePrefix(word); err == nil {
			return p.Addr().String() + "%" + zone
		}
	}
	t.Fatalf("%s has no link-local address on %s", h.Name, ifname)
	return ""
}
