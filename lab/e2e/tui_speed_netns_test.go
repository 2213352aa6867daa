//go:build netns

package e2e_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/lab"
	"nigh/lab/node"
)

// The measure of the terminal UI: devices near, changes of them in a second, transfers in its history.
const (
	crowdDevices   = 300
	crowdUpdates   = 50
	crowdTransfers = 10_000
)

// crowd is an agent at the level of the control API: the real server, on a real socket, with devices that change all the time.
type crowd struct {
	control.Backend
	state control.State
}

func crowdPeer(n, age int) control.Peer {
	id := identity.DeviceID(sha256.Sum256([]byte(fmt.Sprint("device", n))))
	return control.Peer{ID: id.String(), Short: id.Short(), Name: fmt.Sprintf("device %03d", n), Trust: "trusted", State: "ready", Age: float64(age % 60),
		Paths: []control.Path{{Kind: "direct", Ifname: "p2p-wlan0-0", Address: "[fe80::1]:7421", Signal: -40 - (n+age)%50, RTT: float64(1+age%9) / 2, Active: true},
			{Kind: "lan", Ifname: "eth0", Address: fmt.Sprintf("10.0.%d.%d:7421", n/250, 1+n%250), RTT: 2}}}
}

func newCrowd() *crowd {
	c := &crowd{}
	st := &c.state
	st.Status = control.Status{ID: crowdPeer(-1, 0).ID, Short: crowdPeer(-1, 0).Short, Name: "crowd", Radio: control.Radio{State: "ready", Ifname: "wlan0"}}
	for n := range crowdDevices {
		st.Peers = append(st.Peers, crowdPeer(n, 0))
	}
	for n := range crowdTransfers {
		st.Transfers = append(st.Transfers, control.Transfer{ID: fmt.Sprintf("%05x", n), Direction: "receive", Peer: st.Peers[n%crowdDevices].ID, PeerName: "device",
			Name: fmt.Sprintf("file %d.iso", n), Files: 1, BytesTotal: 1 << 30, BytesDone: 1 << 30, State: "done", Ended: "2026-11-21T10:00:00Z", Age: float64(n)})
	}
	st.Transfers[0].State, st.Transfers[0].Ended, st.Transfers[0].BytesTotal = "running", "", 1<<50
	return c
}

// Watch sends what there is, and then a change of a device or of the running transfer, so many in a second, until ctx ends.
func (c *crowd) Watch(ctx context.Context, _ bool) (<-chan control.Event, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan control.Event, 64)
	go func() {
		defer close(events)
		tick := time.NewTicker(time.Second / crowdUpdates)
		defer tick.Stop()
		e := control.Event{Seq: 1, Type: "state", State: &c.state}
		for n := 0; ; n++ {
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			e = control.Event{Seq: e.Seq + 1, Type: "peer"}
			if n%5 == 0 {
				t := c.state.Transfers[0]
				t.BytesDone, t.Rate, t.ETA = int64(n)<<20, 40e6, 100
				e.Type, e.Transfer = "transfer", &t
			} else {
				p := crowdPeer(n*7%crowdDevices, n)
				e.Peer = &p
			}
		}
	}()
	return events, cancel, nil
}

// TestTUIOfACrowd holds the real terminal UI to its budget: with 300 devices near, 50 changes a second and 10 000 transfers in
// the history it takes at most 5 % of a core, and answers a key within 50 ms.
func TestTUIOfACrowd(t *testing.T) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ln, err := control.Listen(filepath.Join(dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- control.NewServer(control.Config{Backend: newCrowd()}).Serve(ctx, ln) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	a := &node.Agent{Config: node.Config{Binary: bin, Dir: dir, Command: exec.CommandContext}, Socket: ln.Addr().String()}
	s := terminal(t, a, "the window")
	_, at := s.shows(0, `device 000`, "")

	// It begins with the peers, and a key that changes nothing is not answered by drawing.
	for _, tab := range []string{"2", "1"} {
		s.press(tab)
		_, at = s.shows(at, regexp.QuoteMeta(map[string]string{"1": "[1 Peers]", "2": "[2 Transfers"}[tab]), "")
		began, before := time.Now(), usageOf(t, s.pid)
		<-time.After(4 * time.Second)
		took, spent := time.Since(began), usageOf(t, s.pid).Sub(before).CPU
		part := 100 * spent.Seconds() / took.Seconds()
		limit := 100 * lab.Bound(t, took/20).Seconds() / took.Seconds()
		t.Logf("screen %s: %.1f %% of a core over %.1f s", tab, part, took.Seconds())
		if part > limit {
			t.Errorf("screen %s: %.1f %% of a core, the limit is %.1f %%", tab, part, limit)
		}
	}

	// Each key changes the selected row, which is drawn anew.
	var waits []time.Duration
	for n := range 40 {
		began := time.Now()
		s.press("j")
		_, at = s.shows(at, fmt.Sprintf(`> device %03d`, n+1), "")
		waits = append(waits, time.Since(began))
	}
	slices.Sort(waits)
	t.Logf("a key is answered in %.0f ms (median), %.0f ms (19 of 20), %.0f ms (slowest)", ms(waits[20]), ms(waits[38]), ms(waits[39]))
	if limit := lab.Bound(t, 50*time.Millisecond); waits[38] > limit {
		t.Errorf("19 of 20 keys are answered within %v, the limit is %v", waits[38], limit)
	}
	t.Logf("it has %.1f MB of memory", float64(usageOf(t, s.pid).RSS)/1e6)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func usageOf(t *testing.T, pid int) node.Usage {
	t.Helper()
	u, err := node.UsageOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
