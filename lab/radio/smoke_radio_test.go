//go:build radio

package radio

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// p2p is a node's P2P interface on D-Bus.
type p2p struct {
	node    *Node
	object  dbus.BusObject
	signals chan *dbus.Signal
}

func dial(t *testing.T, n *Node) p2p {
	t.Helper()
	conn, err := dbus.Connect(n.Bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var path dbus.ObjectPath
	err = conn.Object(supplicantName, supplicantPath).CallWithContext(t.Context(), supplicantName+".GetInterface", 0, n.Ifname).Store(&path)
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface(supplicantName + ".Interface.P2PDevice")); err != nil {
		t.Fatal(err)
	}
	return p2p{node: n, object: conn.Object(supplicantName, path), signals: signals}
}

func (p p2p) call(t *testing.T, method string, options map[string]any) {
	t.Helper()
	arguments := map[string]dbus.Variant{}
	for k, v := range options {
		arguments[k] = dbus.MakeVariant(v)
	}
	err := p.object.CallWithContext(t.Context(), supplicantName+".Interface.P2PDevice."+method, 0, arguments).Err
	if err != nil {
		t.Fatalf("%s on %s: %v", method, p.node.Name, err)
	}
}

func (p p2p) listen(t *testing.T) {
	t.Helper()
	if err := p.object.CallWithContext(t.Context(), supplicantName+".Interface.P2PDevice.Listen", 0, int32(60)).Err; err != nil {
		t.Fatal(err)
	}
}

// await returns the first signal of that name, or nil when there is none for d.
func (p p2p) await(member string, d time.Duration) *dbus.Signal {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		select {
		case s := <-p.signals:
			if strings.HasSuffix(s.Name, "."+member) {
				return s
			}
		case <-deadline.C:
			return nil
		}
	}
}

// finds searches for another node, which listens, and returns the signal that tells of it. A supplicant may break off listening
// or searching when its radio is busy with something else, so both are begun again now and then.
func (p p2p) finds(t *testing.T, other p2p) *dbus.Signal {
	t.Helper()
	for range 6 {
		other.listen(t)
		p.call(t, "Find", map[string]any{"Timeout": int32(60)})
		if found := p.await("DeviceFound", 20*time.Second); found != nil {
			return found
		}
	}
	t.Fatalf("%s does not find %s", p.node.Name, other.node.Name)
	return nil
}

// TestRadiosHearEachOther is the smoke test of the whole lab: two wpa_supplicants find each other over the simulated air.
func TestRadiosHearEachOther(t *testing.T) {
	begin := time.Now()
	nodes := Nodes(t, 2)
	t.Logf("nodes up after %.1f s", time.Since(begin).Seconds())
	a, b := dial(t, nodes[0]), dial(t, nodes[1])
	begin = time.Now()
	found := a.finds(t, b)
	path, ok := found.Body[0].(dbus.ObjectPath)
	if !ok {
		t.Fatalf("DeviceFound has %v", found.Body)
	}
	t.Logf("found after %.1f s", time.Since(begin).Seconds())
	var link *net.Interface
	if err := nodes[1].Do(func() (err error) { link, err = net.InterfaceByName(nodes[1].Ifname); return err }); err != nil {
		t.Fatal(err)
	}
	// wpa_supplicant sets the locally administered bit in the P2P device address, or keeps the interface's own.
	want := strings.ReplaceAll(link.HardwareAddr.String(), ":", "")[2:]
	if got := filepath.Base(string(path)); got[2:] != want {
		t.Fatalf("found %s, the other radio is %s", got, link.HardwareAddr)
	}
}

// TestSupplicantCrash kills wpa_supplicant and starts it again, twice.
func TestSupplicantCrash(t *testing.T) {
	n := Nodes(t, 1)[0]
	for range 2 {
		old := n.SupplicantPID()
		if old == 0 {
			t.Fatal("wpa_supplicant does not run")
		}
		if err := n.KillSupplicant(); err != nil {
			t.Fatal(err)
		}
		if pid := n.SupplicantPID(); pid != 0 {
			t.Fatalf("wpa_supplicant runs as %d after it was killed", pid)
		}
		if err := n.StartSupplicant(); err != nil {
			t.Fatal(err)
		}
		if pid := n.SupplicantPID(); pid == 0 || pid == old {
			t.Fatalf("wpa_supplicant was %d and is %d", old, pid)
		}
	}
}

// TestBedLeavesNothing checks that namespaces, radios, processes and files are gone after a bed is closed.
func TestBedLeavesNothing(t *testing.T) {
	var folder string
	var left *os.Process
	t.Run("bed", func(t *testing.T) {
		n := Nodes(t, MaxNodes)[MaxNodes-1]
		folder = n.folder
		cmd := n.Command(context.Background(), "sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left = cmd.Process
	})
	if left == nil {
		t.FailNow()
	}
	for _, path := range []string{folder, "/sys/module/" + module, "/run/netns/n0", "/run/netns/n3"} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	ended := make(chan struct{})
	go func() { _, _ = left.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("a process of the bed is left")
	}
}
