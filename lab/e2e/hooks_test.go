package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
)

// Hooks are run on what others do, outside of the agent's sandbox, with JSON on their standard input and nothing of a device's in
// their arguments and environment; they end with the agent.
func TestHooks(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	home := t.TempDir()
	told := filepath.Join(home, "private", "told") // where the agent itself may neither read nor write
	if err := os.Mkdir(filepath.Dir(told), 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(home, "private", "hook")
	script := fmt.Sprintf("#!/bin/sh\ncat > %[1]s-$1.$$\nenv > %[1]s-$1.env\necho \"$@\" > %[1]s-$1.args\nmv %[1]s-$1.$$ %[1]s-$1\n", told)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	stuck := filepath.Join(home, "private", "stuck")
	if err := os.WriteFile(stuck, []byte("#!/bin/sh\ntrap '' TERM INT HUP\necho $$ > "+told+"-pid.new; mv "+told+"-pid.new "+told+"-pid\nsleep 1000 & wait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, "config.toml")
	text := fmt.Sprintf("[hooks]\non_received = [%[1]q, \"received\"]\non_offer = [%[1]q, \"offer\"]\non_message = [%[1]q, \"message\"]\non_paired = [%[1]q, \"paired\"]\non_peer = [\"/does/not/exist\"]\n", program)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ada := start(t, ha, "ada")
	bob := startIn(t, home, hb, "bob", "--config", config)
	befriend(t, ada, bob)

	type input struct {
		Event    string
		Transfer *control.Transfer
		Inbox    *control.InboxItem
		Message  *control.Message
		Peer     *control.Peer
	}
	hears := func(event string) (in input) {
		t.Helper()
		ctx := within(t, time.Minute)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			raw, err := os.ReadFile(told + "-" + event)
			if err == nil {
				if err := json.Unmarshal(raw, &in); err != nil || in.Event != event {
					t.Fatalf("the hook of %s was told %q: %v", event, raw, err)
				}
				return in
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("no hook was run on %s:\n%s", event, bob.Tail())
			}
		}
	}
	if in := hears("paired"); in.Peer == nil || in.Peer.Trust != "trusted" {
		t.Errorf("paired: %+v", in.Peer)
	}
	if err := ada.Await(within(t, time.Minute), hasPeer("bob", "ready")); err != nil {
		t.Fatal(err)
	}
	const evil = "$(touch /tmp/nigh-evil) `id` '; rm -rf / #\n\"}{\x1b[2J"
	run(t, ada, 0, "msg", evil, "--to", "bob")
	if in := hears("message"); in.Message == nil || !strings.HasPrefix(in.Message.Text, "$(touch /tmp/nigh-evil) `id` '; rm -rf / #\n\"}{") || in.Message.PeerName != "ada" {
		t.Errorf("message: %+v", in.Message)
	}
	file := filepath.Join(t.TempDir(), "$(id) letter.txt")
	random(t, file, 1000)
	run(t, ada, 0, "send", file, "--to", "bob", "--no-wait")
	offer := hears("offer")
	if offer.Inbox == nil || offer.Inbox.Transfer == nil || offer.Inbox.Transfer.Name != "$(id) letter.txt" {
		t.Fatalf("offer: %+v", offer.Inbox)
	}
	run(t, bob, 0, "accept", offer.Inbox.ID)
	if in := hears("received"); in.Transfer == nil || in.Transfer.State != "done" || in.Transfer.Path != filepath.Join(bob.Inbox, "$(id) letter.txt") {
		t.Errorf("received: %+v", in.Transfer)
	}
	for _, event := range []string{"message", "offer", "received"} {
		args, _ := os.ReadFile(told + "-" + event + ".args")
		env, _ := os.ReadFile(told + "-" + event + ".env")
		if string(args) != event+"\n" || !strings.Contains(string(env), "HOME="+home+"\n") || !strings.Contains(string(env), "NIGH_SOCKET="+bob.Socket+"\n") ||
			strings.Contains(string(env), "id)") || strings.Contains(string(env), "evil") {
			t.Errorf("the hook of %s has the arguments %q and the environment\n%s", event, args, env)
		}
	}
	if !strings.Contains(bob.Tail(), `msg="Hook failed" hook=on_peer program=/does/not/exist`) || !strings.Contains(bob.Tail(), "ls -l /does/not/exist") {
		t.Errorf("the log has nothing of the hook that is not there:\n%s", bob.Tail())
	}

	// One that does not end ends with the agent, also when that is killed.
	if err := os.WriteFile(config, fmt.Appendf(nil, "[hooks]\non_message = [%q]\n", stuck), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, _, _ := bob.Run(within(t, time.Minute), "config", "reload", "--json"); !strings.Contains(said, `"later":["hooks"]`) {
		t.Errorf("other hooks count at once: %s", said)
	}
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{bob.Stop, bob.Kill} {
		_ = os.Remove(told + "-pid")
		if err := bob.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		run(t, ada, 0, "msg", "hello", "--to", "bob")
		pid := appears(t, told+"-pid")
		if err := end(); err != nil {
			t.Fatal(err)
		}
		vanishes(t, "/proc/"+strings.TrimSpace(pid))
	}
}

// appears waits for a file and returns its text.
func appears(t *testing.T, path string) string {
	t.Helper()
	ctx, tick := within(t, time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		if raw, err := os.ReadFile(path); err == nil {
			return string(raw)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(path + " does not appear")
		}
	}
}

// vanishes waits until a process, by its folder in /proc, has ended.
func vanishes(t *testing.T, path string) {
	t.Helper()
	ctx, tick := within(t, time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		if stat, err := os.ReadFile(path + "/stat"); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the process %s lives on", path)
		}
	}
}
