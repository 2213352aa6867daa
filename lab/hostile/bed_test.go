package hostile

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/lab"
	"nigh/lab/node"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(built) // "" is none
		os.Exit(code)
	}))
}

// built is the folder of the program.
var built string

// What an agent may have, whatever is done to it.
const (
	maxRSS         = 64 << 20
	maxAccepted    = 96 << 20 // with the manifest of a million entries, that was accepted
	maxDescriptors = 160
	maxThreads     = 64
)

// port is where agents listen.
const port = 7421

// program builds the program once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "nigh-hostile-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "nigh")
	cmd := exec.Command("go", "build", "-o", path, "nigh")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// bed is ada, who is attacked; bob, whom she trusts; and a host of the attacker with many addresses, all on one segment.
type bed struct {
	t        *testing.T
	ada, bob *node.Agent
	target   Target
	adaID    string
	events   <-chan control.Event
	state    control.State
	serial   int
	rss      int64 // most bytes of ada
}

// newBed starts the agents; args are for ada. The hosts' folders are below dir.
func newBed(t *testing.T, dir string, args ...string) *bed {
	t.Helper()
	t.Setenv("GOMEMLIMIT", "64MiB") // as the service has it
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	mallory := n.Host("mallory")
	// IPv4 only: the addresses of a host are those that it is given.
	var hosts []*lab.Host
	for _, name := range []string{"ada", "bob"} {
		hosts = append(hosts, n.Host(name))
	}
	var addrs []string
	b := &bed{t: t, rss: maxRSS}
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{10, 9, 1, byte(i + 1)})
		b.target.From = append(b.target.From, a)
		addrs = append(addrs, a.String()+"/16")
	}
	for _, h := range append(hosts, mallory) {
		h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
	}
	lan.Join(hosts[0], "eth0", "10.9.0.1/16")
	lan.Join(hosts[1], "eth0", "10.9.0.2/16")
	lan.Join(mallory, "eth0", addrs...)
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	start := func(h *lab.Host, name string, args ...string) *node.Agent {
		folder := filepath.Join(dir, name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := node.Start(t.Context(), node.Config{
			Binary: bin, Dir: folder, Name: name, Command: h.Command, Level: "info",
			Args: append([]string{"--no-direct"}, args...),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Kill() })
		return a
	}
	b.ada = start(hosts[0], "ada", append([]string{"--accept", "trusted"}, args...)...)
	b.bob = start(hosts[1], "bob")
	if err := node.Befriend(t.Context(), b.ada, b.bob); err != nil {
		t.Fatal(err)
	}
	status, err := b.ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.adaID = status.ID
	b.target.Inside = mallory.Do
	b.target.Addr = netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), port)
	b.target.Friend = netip.AddrPortFrom(netip.MustParseAddr("10.9.0.2"), port)
	ctx, cancel := context.WithCancel(t.Context())
	if b.events, err = b.ada.Client().Watch(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for range b.events { // until it ends
		}
	})
	b.await("bob is ready", func(s control.State) bool {
		for _, p := range s.Peers {
			if p.Name == "bob" && p.State == "ready" {
				return true
			}
		}
		return false
	})
	return b
}

// await follows ada's events until ok holds of her state.
func (b *bed) await(what string, ok func(control.State) bool) {
	b.t.Helper()
	deadline := time.After(2 * Patience)
	for !ok(b.state) {
		select {
		case e, open := <-b.events:
			if !open {
				b.t.Fatalf("%s: the event stream ended\n%s", what, b.ada.Tail())
			}
			node.Apply(&b.state, e)
		case <-deadline:
			b.t.Fatalf("%s: not within %v\n%s", what, 2*Patience, b.ada.Tail())
		}
	}
}

// said has bob send ada a message, waits until she has it, and returns how long that took.
func (b *bed) said() time.Duration {
	b.t.Helper()
	b.serial++
	text := fmt.Sprintf("still there? %d", b.serial)
	began := time.Now()
	if _, err := b.bob.Client().SendMessage(b.t.Context(), control.MessageRequest{Text: text, To: []string{b.adaID}}); err != nil {
		b.t.Fatal(err)
	}
	b.await("a message of a trusted device", func(s control.State) bool {
		for _, m := range s.Messages {
			if m.Text == text {
				return true
			}
		}
		return false
	})
	return time.Since(began)
}

// trust makes ada trust a device of the attacker, or trust it no more.
func (b *bed) trust(id identity.DeviceID, action string) {
	b.t.Helper()
	if _, err := b.ada.Client().ChangeTrust(b.t.Context(), control.TrustRequest{Action: action, Device: id.String()}); err != nil {
		b.t.Fatal(err)
	}
}

// stands checks that ada serves whom she trusts, that nothing of the attackers is on her disk or among what she accepted, and
// what she takes of her machine.
func (b *bed) stands() {
	t := b.t
	t.Helper()
	b.said()
	folder := filepath.Join("/proc", strconv.Itoa(b.ada.PID()))
	descriptors, err := os.ReadDir(filepath.Join(folder, "fd"))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.ada.Tail())
	}
	threads, err := os.ReadDir(filepath.Join(folder, "task"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := b.ada.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if u.RSS > b.rss || len(descriptors) > maxDescriptors || len(threads) > maxThreads {
		t.Errorf("ada has %.1f MiB RSS, %d descriptors, %d threads", float64(u.RSS)/(1<<20), len(descriptors), len(threads))
	}
	b.await("the attackers' transfers are over", func(s control.State) bool {
		for _, tr := range s.Transfers {
			if strings.HasPrefix(tr.Name, Name) && (tr.State == "done" || tr.State == "running" || tr.State == "verifying") {
				return false
			}
		}
		return true
	})
	b.emptied(b.ada.Inbox)
	book, err := b.ada.Client().Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trusted := 0
	for _, r := range book {
		if r.Trust == "trusted" {
			trusted++
		}
	}
	if trusted != 1 {
		t.Errorf("ada trusts %+v, want bob alone", book)
	}
	log, err := os.ReadFile(b.ada.Log)
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.Index(bytes.ToLower(log), []byte("panic")); i >= 0 {
		t.Errorf("in ada's log: %s", log[max(0, i-200):min(len(log), i+2000)])
	}
}

// emptied waits until a folder is empty.
func (b *bed) emptied(folder string) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for {
		entries, err := os.ReadDir(folder)
		if err != nil {
			b.t.Fatal(err)
		}
		if len(entries) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Errorf("in the inbox: %v", entries)
			return
		}
	}
}
