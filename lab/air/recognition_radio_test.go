//go:build radio

package air_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/agent/recognise"
	"nigh/lab/node"
	"nigh/lab/radio"
	"nigh/wpa"
)

// agents starts one agent for each name on the first radio nodes.
func agents(t *testing.T, nodes []*radio.Node, names []string, args ...string) []*node.Agent {
	t.Helper()
	bin, err := filepath.Abs("../../bin/nigh")
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*node.Agent, len(names))
	for i, name := range names {
		all[i], err = node.Start(t.Context(), node.Config{Binary: bin, Dir: t.TempDir(), Name: name, Command: nodes[i].Command, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s:\n%s", name, tail(all[i].Log, 20000))
			}
			_ = all[i].Kill()
		})
		ready(t, all[i])
	}
	return all
}

func tail(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-n):])
}

func ready(t *testing.T, a *node.Agent) {
	t.Helper()
	if err := a.Await(within(t, time.Minute), func(s control.State) bool { return s.Status.Radio.State == "ready" }); err != nil {
		t.Fatal(err)
	}
}

// restart starts an agent again with other flags and the same state.
func restart(t *testing.T, a *node.Agent, args ...string) {
	t.Helper()
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	a.Args = args
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready(t, a)
}

// join has one agent form a group with another device.
func join(ctx context.Context, a *node.Agent, device string) error {
	if _, errs, code := a.Run(ctx, "group", "join", device); code != 0 {
		return fmt.Errorf("%s: group join %s: exit %d: %s", a.Name, device, code, errs)
	}
	return nil
}

// together waits until both have exactly one group and a session with each other over it.
func together(t *testing.T, a, b *node.Agent) {
	t.Helper()
	for _, p := range [][2]*node.Agent{{a, b}, {b, a}} {
		if err := p[0].Await(within(t, 2*time.Minute), func(s control.State) bool {
			return len(s.Status.Groups) == 1 && slices.ContainsFunc(s.Peers, func(peer control.Peer) bool {
				return peer.Name == p[1].Name && peer.State == "ready"
			})
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// apart ends the group on both sides.
func apart(t *testing.T, a, b *node.Agent) {
	t.Helper()
	if _, errs, code := a.Run(within(t, time.Minute), "group", "leave"); code != 0 {
		t.Fatalf("leave: exit %d: %s", code, errs)
	}
	for _, x := range []*node.Agent{a, b} {
		x.Run(within(t, time.Minute), "group", "leave") // an owner keeps the group for a while; a client is out already
		if err := x.Await(within(t, time.Minute), func(s control.State) bool { return len(s.Status.Groups) == 0 }); err != nil {
			t.Fatal(err)
		}
	}
}

// silent checks that nobody was asked anything: what an agent logs when it asks is not in its log.
func silent(t *testing.T, all ...*node.Agent) {
	t.Helper()
	for _, a := range all {
		raw, err := os.ReadFile(a.Log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "Device asks to form a group") {
			t.Errorf("%s asked its user", a.Name)
		}
	}
}

// outsider is a supplicant that runs no agent: what it sees is what everybody sees.
func outsider(t *testing.T, n *radio.Node, cfg wpa.Config) *wpa.Radio {
	t.Helper()
	cfg.Bus = n.Bus
	r, err := wpa.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	up := make(chan struct{})
	go func() {
		ready := false
		for range r.Events() {
			if !ready && r.Status().State == wpa.Ready {
				ready = true
				close(up)
			}
		}
	}()
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-up:
	case <-within(t, time.Minute).Done():
		t.Fatal("the outsider's radio is not ready")
	}
	return r
}

// seen waits until an outsider sees n devices and returns them.
func seen(t *testing.T, r *wpa.Radio, n int) []wpa.Peer {
	t.Helper()
	if err := r.Find(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	deadline := within(t, time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if peers := r.Peers(); len(peers) >= n && !slices.ContainsFunc(peers, func(p wpa.Peer) bool { return len(p.Vendor) == 0 }) {
			if err := r.StopFind(t.Context()); err != nil {
				t.Fatal(err)
			}
			return peers
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatalf("the outsider sees %+v", r.Peers())
		}
	}
}

// TestTrustedDevicesJoinSilently has two devices that trust each other form groups with a PIN that nobody types: asked for by
// one, by the other, and by both at once; trusted by ID alone, and then invisible to everybody else.
func TestTrustedDevicesJoinSilently(t *testing.T) {
	nodes := radio.Nodes(t, 3)
	all := agents(t, nodes, []string{"ada here", "bob there"}) // no made-up name has a space
	ada, bob := all[0], all[1]
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	// Only the IDs are known so far: each learns the other's key from the air.
	begin := time.Now()
	if err := join(within(t, 3*time.Minute), ada, bob.Name); err != nil {
		t.Fatal(err)
	}
	together(t, ada, bob)
	t.Logf("trusted by ID: a session over the group %.1f s after the command", time.Since(begin).Seconds())
	silent(t, ada, bob)
	apart(t, ada, bob)

	for _, a := range all {
		restart(t, a, "--visibility", "trusted")
	}
	eve := outsider(t, nodes[2], wpa.Config{})
	for _, p := range seen(t, eve, 2) {
		t.Logf("everybody sees %s: name %q, vendor extension %x", p.Address, p.Name, p.Vendor)
		if _, err := base64.RawURLEncoding.DecodeString(p.Name); err != nil || len(p.Name) != 32 {
			t.Errorf("the name %q is not a made-up one", p.Name)
		}
		for _, a := range all {
			status, err := a.Client().Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if status.Agent.Visibility != "trusted" {
				t.Errorf("%s says it is visible to %q", a.Name, status.Agent.Visibility)
			}
			for _, secret := range []string{a.Name, status.Short} {
				if strings.Contains(strings.ToLower(p.Name+string(slices.Concat(p.Vendor...))), strings.ToLower(secret)) {
					t.Errorf("everybody sees %q", secret)
				}
			}
		}
		if len(p.Vendor) != 1 {
			t.Errorf("%d vendor extensions", len(p.Vendor))
		} else if advert, err := recognise.Decode(p.Vendor[0]); err != nil || !advert.Key.IsZero() {
			t.Errorf("the advert %x: key %x, %v", p.Vendor[0], advert.Key, err)
		}
	}
	// The two list each other, with a signal and without any connection.
	for _, p := range [][2]*node.Agent{{ada, bob}, {bob, ada}} {
		look(t, p[0])
		if err := p[0].Await(within(t, time.Minute), func(s control.State) bool {
			return len(s.Status.Groups) == 0 && slices.ContainsFunc(s.Peers, func(peer control.Peer) bool {
				return peer.Name == p[1].Name && peer.Trust == "trusted" && peer.State == "visible" && len(peer.Paths) == 1 && peer.Paths[0].Signal < 0
			})
		}); err != nil {
			t.Fatal(err)
		}
	}

	begin = time.Now()
	if err := join(within(t, 3*time.Minute), bob, ada.Name); err != nil {
		t.Fatal(err)
	}
	together(t, ada, bob)
	t.Logf("the other way, unseen by others: %.1f s", time.Since(begin).Seconds())
	apart(t, bob, ada)

	begin = time.Now()
	errs := make(chan error, 2)
	ctx := within(t, 4*time.Minute)
	go func() { errs <- join(ctx, ada, bob.Name) }()
	go func() { errs <- join(ctx, bob, ada.Name) }()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	together(t, ada, bob)
	t.Logf("both at once: %.1f s", time.Since(begin).Seconds())
	silent(t, ada, bob)
	apart(t, ada, bob)
}

// TestForgedFriendStaysOut has an outsider repeat all that a trusted device ever said, under its name, and ask with a button,
// with a PIN of its own and as somebody who joins.
func TestForgedFriendStaysOut(t *testing.T) {
	nodes := radio.Nodes(t, 3)
	all := agents(t, nodes, []string{"ada", "bob"}, "--accept", "trusted")
	ada, bob := all[0], all[1]
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	if err := join(within(t, 3*time.Minute), ada, "bob"); err != nil {
		t.Fatal(err)
	}
	together(t, ada, bob)
	apart(t, ada, bob)
	eve := outsider(t, nodes[2], wpa.Config{})
	var real wpa.Peer
	var target net.HardwareAddr
	for _, p := range seen(t, eve, 2) {
		switch {
		case strings.HasPrefix(p.Name, "ada ["):
			real = p
		case strings.HasPrefix(p.Name, "bob ["):
			target = p.Address
		}
	}
	if real.Name == "" || target == nil {
		t.Fatalf("eve sees %+v", eve.Peers())
	}
	if err := ada.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := eve.Advertise(t.Context(), wpa.Advert{Name: real.Name, Vendor: real.Vendor, Visible: true}); err != nil {
		t.Fatal(err)
	}
	for what, method := range map[string]wpa.Method{"a button": wpa.PBC(), "a PIN to enter": wpa.EnterPIN("12345670"), "a PIN to show": wpa.ShowPIN("12345670", nil)} {
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		if method.Kind == wpa.KindPBC {
			go func() { // ends with ctx
				if bob.Await(ctx, func(s control.State) bool { return len(s.Inbox) > 0 }) == nil {
					cancel() // who is asked lets nobody in by himself
				}
			}()
		}
		g, err := eve.Connect(ctx, target, method, wpa.ConnectOptions{Intent: 7})
		cancel()
		if err == nil {
			t.Errorf("with %s the forged device got in: %+v", what, g)
		}
		t.Logf("with %s: %v", what, err)
	}
	status, err := bob.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Groups) != 0 {
		t.Errorf("bob has groups: %+v", status.Groups)
	}
	raw, err := os.ReadFile(bob.Log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "Device asks to form a group"); n > 1 {
		t.Errorf("bob's user was asked %d times", n)
	}
	if !strings.Contains(string(raw), "Trusted device asks to form a group") {
		t.Error("bob never took the repeated advert for ada's: the test shows nothing")
	}
	// The real one still gets in.
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready(t, ada)
	if err := join(within(t, 3*time.Minute), ada, "bob"); err != nil {
		t.Error(err)
	}
}
