//go:build radio

package link

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/lab/radio"
)

// The next line asks the lab for a guest with systemd.
//lab:systemd

// What the real NetworkManager and systemd-networkd leave under /run says which links are theirs, and from when on they are
// not any more.
func TestRadioManagers(t *testing.T) {
	node := radio.NodesOf(t, radio.Config{Nodes: 1, System: true})[0]
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	index := map[string]int{}
	for _, name := range []string{"eth7", "eth8"} {
		run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "far"+name)
		run("ip", "link", "set", "far"+name, "up")
		run("ip", "link", "set", name, "up")
		t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() })
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		index[name] = ifi.Index
	}
	await := func(name, want string) {
		t.Helper()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			got := manager("/run", index[name], name)
			if got == want {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				var left strings.Builder
				for _, path := range []string{"NetworkManager/devices", "systemd/netif/links"} {
					raw, err := os.ReadFile(filepath.Join("/run", path, fmt.Sprint(index[name])))
					fmt.Fprintf(&left, "%s: %v\n%s\n", path, err, raw)
				}
				t.Fatalf("%s is %q's, want %q\n%s", name, got, want, left.String())
			}
		}
	}
	await("eth7", "")
	if err := node.StartNetworkManager(ctx, ""); err != nil {
		t.Fatal(err)
	}
	run("nmcli", "device", "set", "eth7", "managed", "yes")
	await("eth7", "NetworkManager")
	run("nmcli", "device", "set", "eth7", "managed", "no")
	run("nmcli", "device", "set", "eth8", "managed", "no")
	await("eth7", "")
	await("eth8", "")

	file := "/run/systemd/network/10-nigh-test.network"
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("[Match]\nName=eth8\n[Network]\nDHCP=ipv4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", "systemd-networkd.socket", "systemd-networkd.service").Run()
		_ = os.Remove(file)
	})
	run("systemctl", "start", "systemd-networkd.service")
	await("eth8", "systemd-networkd")
	await("eth7", "")
}
