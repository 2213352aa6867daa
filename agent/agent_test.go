package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/transfer"
)

// localConfig is an agent that touches no link and no radio of the machine.
func localConfig(t *testing.T) Config {
	t.Helper()
	off := false
	dir := t.TempDir()
	return Config{
		Settings: Settings{Name: "ada", Listen: "127.0.0.1:0", Direct: &off, Interfaces: []string{"none0"}, Inbox: filepath.Join(dir, "inbox")},
		State:    filepath.Join(dir, "state"), Socket: filepath.Join(dir, "run", "agent.sock"),
	}
}

// runAgent runs an agent until the test ends.
func runAgent(t *testing.T, cfg Config) *Agent {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return a
}

func TestNewThatFailsLeavesNothingOpen(t *testing.T) {
	cfg := localConfig(t)
	// A port that is known, to see that it is free again.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = l.Addr().String()
	_ = l.Close()
	bad := cfg
	bad.Socket = "/" + strings.Repeat("x", 200)
	if _, err := New(bad); err == nil {
		t.Fatal("a socket path of 200 bytes was taken")
	} else if e := Explain(err); e.Message == "" || e.Hint == "" {
		t.Errorf("%v is explained as %+v", err, e)
	}
	runAgent(t, cfg)
	_, err = New(cfg)
	if e := Explain(err); err == nil || e.Code != control.CodeBusy || !strings.Contains(e.Hint, "--state") {
		t.Errorf("a second agent on the same state: %v", err)
	}
}

func TestTransfersEndWithTrust(t *testing.T) {
	a := runAgent(t, localConfig(t))
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := someID(9)
	if err := a.trust.Add(other, "other"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(identity.DeviceID) error{a.trust.Remove, a.trust.Block} {
		id := someID(1)
		if err := a.trust.Add(id, "bob"); err != nil {
			t.Fatal(err)
		}
		made, err := a.transfers.Send(t.Context(), transfer.SendRequest{Paths: []string{file}, To: []identity.DeviceID{id, other}})
		if err != nil {
			t.Fatal(err)
		}
		if err := end(id); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err = a.change.wait(ctx, func() bool {
			now, err := a.transfers.Transfer(made[0].ID)
			return err == nil && now.State == transfer.Failed && now.ErrorCode == transfer.Code(transfer.ErrCancelled)
		})
		if err != nil {
			now, _ := a.transfers.Transfer(made[0].ID)
			t.Errorf("the transfer to a device that is %v goes on: %s (%s)", a.trust.Standing(id), now.State, now.ErrorCode)
		}
		if kept, _ := a.transfers.Transfer(made[1].ID); kept.State.Ended() {
			t.Errorf("the transfer to another device ended: %s (%s)", kept.State, kept.ErrorCode)
		}
	}
}

// A typed address is dialled, whatever anybody calls himself.
func TestTypedAddressIsNotAName(t *testing.T) {
	a := runAgent(t, localConfig(t))
	a.stranger(someID(2<<24), "127.0.0.1:1")
	id, err := a.reach(t.Context(), "127.0.0.1:1")
	if !errors.Is(err, &control.Error{Code: control.CodeAway}) {
		t.Errorf("the address stood for %s, %v", id.Short(), err)
	}
	if _, err := a.reach(t.Context(), fmt.Sprintf("127.0.0.1:%d", a.sessions.Port())); err == nil || !strings.Contains(explain(err).Message, "this device itself") {
		t.Errorf("its own address: %v", err)
	}
}
