package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/message"
	"nigh/agent/policy"
)

// The admin may forbid the user's commands, and have commands; both are shown with where they are from.
func TestHooksAndThePolicy(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	program := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n{ cat; } > "+out+"-$1.new; mv "+out+"-$1.new "+out+"-$1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := localConfig(t)
	cfg.Hooks.OnMessage = []string{program, "user"}
	cfg.PolicyFile = policyFile(t, "user_hooks = false\n\n[hooks]\non_message = [\""+program+"\", \"admin\"]\n")
	a := runAgent(t, cfg)
	if s := setting(t, a.now().shown, "hooks.on_message"); s.Value != program+" admin" || s.Origin != cfg.PolicyFile+":4" || !s.Policy {
		t.Errorf("shown is %+v", s)
	}
	if s := setting(t, a.now().shown, "user_hooks"); s.Value != "false" || !s.Policy {
		t.Errorf("shown is %+v", s)
	}
	m := message.Message{Seq: 7, ID: "m7", Direction: message.Receive, Peer: someID(4), Text: "hello"}
	a.messageChanged(m)
	a.messageChanged(m) // a change of it is no second message
	var got struct {
		Event   string
		Message struct{ Text string }
	}
	if err := json.Unmarshal([]byte(waitFile(t, out+"-admin")), &got); err != nil || got.Event != "message" || got.Message.Text != "hello" {
		t.Errorf("the admin's command was told %+v, %v", got, err)
	}
	// From now on the user's count, too.
	writePolicy(t, cfg.PolicyFile, "")
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(out + "-admin"); err != nil {
		t.Fatal(err)
	}
	if s := setting(t, a.now().shown, "hooks.on_message"); s.Value != program+" user; "+program+" admin" {
		t.Errorf("now shown is %+v", s)
	}
	m.Seq++
	a.messageChanged(m)
	waitFile(t, out+"-user")
	waitFile(t, out+"-admin") // settled at the start
}

func waitFile(t *testing.T, path string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for {
		if raw, err := os.ReadFile(path); err == nil {
			return string(raw)
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(path + " does not appear")
		}
	}
}

func TestHooksThatCannotBe(t *testing.T) {
	for name, tt := range map[string]struct {
		hooks policy.Hooks
		says  string
	}{
		"relative":     {policy.Hooks{OnPeer: []string{"hook"}}, "hooks.on_peer must begin with the absolute path"},
		"many words":   {policy.Hooks{OnOffer: append([]string{"/x"}, make([]string, 100)...)}, "hooks.on_offer has more than"},
		"NUL":          {policy.Hooks{OnOffer: []string{"/x", "a\x00b"}}, "NUL"},
		"in the inbox": {policy.Hooks{OnReceived: []string{"INBOX/sub/hook"}}, "lies in the inbox"},
	} {
		cfg := localConfig(t)
		cfg.Hooks = tt.hooks
		for _, c := range cfg.Hooks.Commands() {
			if len(c) > 0 {
				c[0] = strings.Replace(c[0], "INBOX", cfg.Inbox, 1)
			}
		}
		if _, err := New(cfg); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Events that come faster than they are handled are dropped, and none waits.
func TestHooksAreBounded(t *testing.T) {
	cfg := localConfig(t)
	cfg.Hooks.OnPeer = []string{"/bin/false"}
	a, err := New(cfg) // and it does not run
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	for range maxHooksQueued + 100 {
		a.hooks.on("peer", func(*hookInput) {})
	}
	dropped := 0
	lines, _ := a.ring.last()
	for _, l := range lines {
		if strings.HasPrefix(l.Message, "Hooks do not keep up") {
			dropped++
		}
	}
	if len(a.hooks.queue) != maxHooksQueued || dropped != 1 {
		t.Errorf("%d wait, and it was said %d times", len(a.hooks.queue), dropped)
	}
}
