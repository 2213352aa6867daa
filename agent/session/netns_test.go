package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
	Op    string // "trust", "at", "hold", "release", "kick", "close", "get"
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
		case "close":
			s.Close(o.ID)
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
	return Candidate{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), n.port), Kind: kind, Ifname: ifname}
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

// pair makes two nodes on one segment.
func pair(t *testing.T) (a, b *node, segment *lab.Bridge) {
	t.Helper()
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	segment = net.Bridge("se-lan")
	segment.Join(ha, "eth0", "10.0.0.1/24")
	segment.Join(hb, "eth0", "10.0.0.2/24")
	a, b = startNode(t, ha), startNode(t, hb)
	a.at(b, b.candidate("lan", "eth0", "10.0.0.2"))
	b.at(a, a.candidate("lan", "eth0", "10.0.0.1"))
	return a, b, segment
}

func TestLinkLocalZones(t *testing.T) {
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	net.Cable(ha, "p2p-a-0", hb, "p2p-b-0")
	a, b := startNode(t, ha), startNode(t, hb)
	a.at(b, b.candidate("direct", "p2p-a-0", linkLocal(t, hb, "p2p-b-0", "p2p-a-0")))
	b.at(a, a.candidate("direct", "p2p-b-0", linkLocal(t, ha, "p2p-a-0", "p2p-b-0")))
	a.tell(order{Op: "hold", ID: b.id})
	b.tell(order{Op: "hold", ID: a.id})
	if s := a.connected(""); s.Path.Addr.Addr().Zone() != "p2p-a-0" || s.Path.Ifname != "p2p-a-0" || s.Path.Kind != "direct" {
		t.Errorf("path = %+v", s.Path)
	}
	b.connected("")
	if got := a.get(b, true); got.Body != "p2p-b-0" {
		t.Errorf("the request came in on %q", got.Body)
	}

	// A group that ended and began again: the same names, other indices.
	began := time.Now()
	ha.IP("link", "del", "p2p-a-0")
	a.tell(order{Op: "kick", ID: b.id})
	a.lost(time.Second)
	net.Cable(ha, "p2p-a-0", hb, "p2p-b-0")
	a.at(b, b.candidate("direct", "p2p-a-0", linkLocal(t, hb, "p2p-b-0", "p2p-a-0")))
	ready := time.Now()
	a.tell(order{Op: "kick", ID: b.id})
	s := a.connected("direct")
	t.Logf("the link was away for %v, connected %v after it was back", ready.Sub(began), s.at.Sub(ready))
	if d := s.at.Sub(ready); d > 2*time.Second {
		t.Errorf("connected %v after the link was back", d)
	}
}

func TestLinkThatIsNotReady(t *testing.T) {
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	segment := net.Bridge("se-lan")
	segment.Join(hb, "eth0", "10.0.0.2/24", "fd00::2/64")
	a, b := startNode(t, ha), startNode(t, hb)
	// No interface, no address, no route: one dial goes through all of it.
	a.at(b, b.candidate("lan", "eth0", linkLocal(t, hb, "eth0", "eth0")), b.candidate("lan", "eth0", "10.0.0.2"))
	token := a.begin(b, false, "/v1/any")
	segment.Join(ha, "eth0", "10.0.0.1/24")
	up := time.Now()
	v := a.result(token, wait)
	if v.Err != "" {
		t.Fatal(v.Err)
	}
	t.Logf("answered %v after the link was usable", v.at.Sub(up))
	if d := v.at.Sub(up); d > time.Second {
		t.Errorf("answered %v after the link was usable", d)
	}
}

func TestSilentPeerIsLostWithinTenSeconds(t *testing.T) {
	a, b, _ := pair(t)
	a.tell(order{Op: "hold", ID: b.id})
	b.tell(order{Op: "hold", ID: a.id})
	a.connected("")
	b.connected("")
	hanging := a.begin(b, true, "/v1/hang")
	a.get(b, true) // so that the other has begun, on the same or the other connection
	cut := time.Now()
	b.host.IP("link", "set", "eth0", "down") // the other end of the cable has no carrier, a sees nothing
	s := a.lost(2 * wait)
	d := s.at.Sub(cut)
	t.Logf("lost %v after the cut: %s", d, s.Err)
	if d > 10500*time.Millisecond {
		t.Errorf("a silent peer was found after %v", d)
	}
	v := a.result(hanging, wait)
	if v.Err == "" {
		t.Error("a body without end ended well")
	}
	if d := v.at.Sub(cut); d > 10500*time.Millisecond {
		t.Errorf("the request that waited for data ended after %v", d)
	}
	b.host.IP("link", "set", "eth0", "up")
	back := time.Now()
	a.tell(order{Op: "kick", ID: b.id})
	s = a.connected("")
	t.Logf("connected %v after the link was back", s.at.Sub(back))
}

func TestKilledPeerIsLostAtOnce(t *testing.T) {
	a, b, _ := pair(t)
	a.tell(order{Op: "hold", ID: b.id})
	a.connected("")
	killed := time.Now()
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if d := a.lost(wait).at.Sub(killed); d > time.Second {
		t.Errorf("a killed peer was found after %v", d)
	}
}

// firewall drops (or rejects) what comes in to n's port.
func firewall(t *testing.T, n *node, verdict string) {
	t.Helper()
	cmd := n.host.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table inet f {
		chain in {
			type filter hook input priority 0; policy accept;
			ct state established,related accept
			tcp flags syn %s
		}
	}`, verdict))
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs nft: package nftables")
	}
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

func TestOneSideFirewalled(t *testing.T) {
	for name, verdict := range map[string]string{
		"drop":   "drop",
		"reject": "reject with icmpx type admin-prohibited",
		"reset":  "meta l4proto tcp reject with tcp reset",
	} {
		t.Run(name, func(t *testing.T) {
			a, b, _ := pair(t)
			firewall(t, b, verdict)
			began := time.Now()
			a.tell(order{Op: "hold", ID: b.id})
			b.tell(order{Op: "hold", ID: a.id})
			b.connected("lan")
			s := a.connected("lan")
			t.Logf("both directions after %v, path %+v", s.at.Sub(began), s.Path)
			if d := s.at.Sub(began); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
			for _, bulk := range []bool{false, true} {
				began := time.Now()
				b.get(a, bulk)
				got := a.get(b, bulk)
				if d := got.at.Sub(began); d > 2*time.Second {
					t.Errorf("bulk %v took %v", bulk, d)
				}
			}
			// And again after everything was lost.
			a.tell(order{Op: "close", ID: b.id})
			a.lost(wait)
			a.connected("lan")
			a.get(b, true)
			a.get(b, false)
		})
	}
}

func TestFirewalledStrangerCanBeAsked(t *testing.T) {
	// b offers something to a, whom nobody told where b is: b holds a, a only asks.
	a, b, _ := pair(t)
	firewall(t, b, "drop")
	a.at(b)
	b.tell(order{Op: "hold", ID: a.id})
	b.connected("lan")
	a.get(b, false)
	a.get(b, true)
}

func TestPathChangesWhenAnAddressGoes(t *testing.T) {
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	lan, direct := net.Bridge("se-lan"), net.Bridge("se-dir")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	direct.Join(ha, "p2p0", "10.0.1.1/24")
	direct.Join(hb, "p2p0", "10.0.1.2/24")
	a, b := startNode(t, ha), startNode(t, hb)
	both := []Candidate{b.candidate("direct", "p2p0", "10.0.1.2"), b.candidate("lan", "eth0", "10.0.0.2")}
	a.at(b, both...)
	a.tell(order{Op: "hold", ID: b.id})
	a.connected("direct")
	hanging := a.begin(b, true, "/v1/hang")
	if got := a.get(b, true); got.Body != "p2p0" {
		t.Errorf("bulk came in on %q", got.Body)
	}

	ha.IP("addr", "flush", "dev", "p2p0")
	a.at(b, both[1])
	began := time.Now()
	a.tell(order{Op: "kick", ID: b.id})
	s := a.connected("lan")
	t.Logf("on the other path after %v", s.at.Sub(began))
	if d := s.at.Sub(began); d > time.Second {
		t.Errorf("the change of path took %v", d)
	}
	if v := a.result(hanging, time.Second); v.Err == "" {
		t.Error("a request on the lost path ended well")
	}
	if got := a.get(b, true); got.Body != "eth0" {
		t.Errorf("bulk came in on %q", got.Body)
	}

	// The better path comes back: it is taken without a gap.
	ha.IP("addr", "add", "10.0.1.1/24", "dev", "p2p0")
	a.at(b, both...)
	a.tell(order{Op: "kick", ID: b.id})
	back := a.until("moved back", wait, func(v news) bool { return v.Op == "state" })
	if !back.Connected || back.Path.Kind != "direct" {
		t.Errorf("state = %+v", back)
	}
	if got := a.get(b, true); got.Body != "p2p0" {
		t.Errorf("bulk came in on %q", got.Body)
	}
}

func TestDefaultPortAndTheNext(t *testing.T) {
	net := lab.NewNet(t)
	var ports []uint16
	err := net.Host("se-p").Do(func() error {
		for range 2 {
			s, err := New(Config{Identity: newIdentity(t)})
			if err != nil {
				return err
			}
			ports = append(ports, s.Port())
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			defer func() { cancel(); <-ended }()
		}
		return nil
	})
	if err != nil || len(ports) != 2 || ports[0] != defaultPort || ports[1] != defaultPort+1 {
		t.Errorf("ports %v, %v", ports, err)
	}
}

func TestFirewalledPeerMovesToABetterPath(t *testing.T) {
	net := lab.NewNet(t)
	ha, hb := net.Host("se-a"), net.Host("se-b")
	lan, direct := net.Bridge("se-lan"), net.Bridge("se-dir")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	direct.Join(ha, "p2p0", "10.0.1.1/24")
	direct.Join(hb, "p2p0", "10.0.1.2/24")
	a, b := startNode(t, ha), startNode(t, hb)
	firewall(t, b, "drop")
	a.at(b, b.candidate("lan", "eth0", "10.0.0.2"))
	b.at(a, a.candidate("lan", "eth0", "10.0.0.1"))
	a.tell(order{Op: "hold", ID: b.id})
	b.tell(order{Op: "hold", ID: a.id})
	a.connected("lan")
	b.connected("lan")

	a.at(b, b.candidate("direct", "p2p0", "10.0.1.2"), b.candidate("lan", "eth0", "10.0.0.2"))
	b.at(a, a.candidate("direct", "p2p0", "10.0.1.1"), a.candidate("lan", "eth0", "10.0.0.1"))
	began := time.Now()
	b.tell(order{Op: "kick", ID: a.id})
	b.connected("direct")
	s := a.until("moved", wait, func(v news) bool { return v.Op == "state" && (!v.Connected || v.Path.Kind == "direct") })
	if !s.Connected {
		t.Errorf("lost on the way: %s", s.Err)
	}
	t.Logf("both on the better path after %v", s.at.Sub(began))
	if got := a.get(b, true); got.Body != "p2p0" {
		t.Errorf("bulk came in on %q", got.Body)
	}
}
