//go:build radio

package air_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
	"nigh/wpa"
)

// TestThirdTrustedDeviceJoins lets two trusted devices into a running group with a PIN that nobody types, while a stranger that
// wants to join becomes a question.
func TestThirdTrustedDeviceJoins(t *testing.T) {
	nodes := radio.Nodes(t, 4)
	all := agents(t, nodes, []string{"ada", "bob", "cleo"})
	for i, a := range all {
		for _, b := range all[i+1:] {
			if err := node.Befriend(t.Context(), a, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	ada := all[0]
	// A group owner cannot look at who joins: the keys have to be known, here from one look at each other.
	for i, a := range all {
		if _, errs, code := a.Run(within(t, time.Minute), "find", "--for", "30s"); code != 0 {
			t.Fatalf("find: exit %d: %s", code, errs)
		}
		for j, b := range all {
			if i == j {
				continue
			}
			if err := a.Await(within(t, time.Minute), hasPeer(b.Name, "visible")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, errs, code := ada.Run(within(t, time.Minute), "group", "create"); code != 0 {
		t.Fatalf("group create: exit %d: %s", code, errs)
	}
	for i, a := range all[1:] {
		begin := time.Now()
		if err := join(within(t, 3*time.Minute), a, "ada"); err != nil {
			t.Fatal(err)
		}
		if err := ada.Await(within(t, time.Minute), func(s control.State) bool {
			return len(s.Status.Groups) == 1 && s.Status.Groups[0].Clients == i+1
		}); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is in the group %.1f s after the command", a.Name, time.Since(begin).Seconds())
	}
	silent(t, all...)
	// The stranger has the name of one of them.
	eve := outsider(t, nodes[3], wpa.Config{DeviceName: "cleo"})
	target := find(t, eve, "ada [")
	joined := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		_, err := eve.Connect(ctx, target, wpa.PBC(), wpa.ConnectOptions{Intent: 7})
		joined <- err
	}()
	if err := ada.Await(within(t, time.Minute), func(s control.State) bool { return len(s.Inbox) == 1 && s.Inbox[0].Kind == "group" }); err != nil {
		t.Error(err)
	}
	if err := <-joined; err == nil {
		t.Error("the stranger is in the group")
	}
}

// find waits until a radio hears the device whose name begins so, with its vendor extension.
func find(t *testing.T, r *wpa.Radio, prefix string) net.HardwareAddr {
	t.Helper()
	if err := r.Find(t.Context(), 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	deadline := within(t, 2*time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, p := range r.Peers() {
			if strings.HasPrefix(p.Name, prefix) {
				if err := r.StopFind(t.Context()); err != nil {
					t.Fatal(err)
				}
				return p.Address
			}
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatalf("nobody is called %q: %+v", prefix, r.Peers())
		}
	}
}
