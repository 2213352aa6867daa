package node

import (
	"context"
	"os/exec"
	"testing"
	"time"
)

// The figures are those of the process: one that works is told from one that sleeps.
func TestUsage(t *testing.T) {
	of := func(script string) (*Agent, *exec.Cmd) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return &Agent{cmd: cmd}, cmd
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	busy, _ := of("while :; do :; done")
	idle, _ := of("sleep 100 & wait")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := busy.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.CPU > 200*time.Millisecond {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("a loop has taken %v", u.CPU)
		}
	}
	u, err := idle.Usage()
	if err != nil || u.CPU > 100*time.Millisecond || u.RSS < 100<<10 || u.RSS > 20<<20 || u.Peak < u.RSS || u.Wakeups == 0 {
		t.Errorf("a sleeping shell: %+v, %v", u, err)
	}
	if d := u.Sub(u); d.CPU != 0 || d.Wakeups != 0 || d.RSS != u.RSS {
		t.Errorf("the difference to itself is %+v", d)
	}
	gone, cmd := of("exit")
	_ = cmd.Wait()
	if u, err := gone.Usage(); err == nil {
		t.Errorf("a process that is gone uses %+v", u)
	}
}
