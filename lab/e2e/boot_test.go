package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// A card with a nigh.toml on its boot partition makes a device that trusts and is trusted, without anybody at it: one by
// the setup code in it, the other by the ID. The partition is read-only, and the agent in its sandbox.
func TestBootPartitionSetsUpAHeadlessDevice(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hp := n.Host("ada"), n.Host("pi")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hp, "eth0", "10.0.0.2/24")
	ada := start(t, ha, "ada")
	code := strings.TrimSpace(run(t, ada, 0, "setup-code"))
	status, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nigh.toml")
	text := fmt.Sprintf("accept = \"trusted\"\ntrusted = [%q]\nsetup_code = %q\n", status.ID, code)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	pi, err := node.Start(t.Context(), node.Config{
		Binary: bin, Dir: t.TempDir(), Name: "pi", Args: []string{"--no-direct"},
		Command: func(ctx context.Context, name string, arg ...string) *exec.Cmd {
			const partition = `umask 022 && mount -t tmpfs -o mode=755 boot /boot && mkdir /boot/firmware && cp "$0" /boot/firmware/nigh.toml && mount -o remount,ro /boot && exec "$@"`
			return hp.Command(ctx, "unshare", append([]string{"--mount", "sh", "-c", partition, file, name}, arg...)...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pi.Kill() })
	if !strings.Contains(run(t, pi, 0, "trust", "list", "--json"), status.ID) {
		t.Error("the device that the file names is not trusted")
	}
	if err := ada.Await(within(t, time.Minute), hasPeer("pi", "visible")); err != nil {
		t.Fatal(err)
	}
	if d := ask(t, ada, code, "pair", "pi", "--code", "-"); d.code != 0 {
		t.Errorf("pairing: %+v", d)
	}
	if err := pi.Await(within(t, time.Minute), hasPeer("ada", "ready")); err != nil {
		t.Fatal(err)
	}
	var now control.Status
	if err := pi.JSON(t.Context(), &now, "status"); err != nil {
		t.Fatal(err)
	}
	if now.Agent.Accept != "trusted" || len(now.Notices) == 0 || !strings.Contains(strings.Join(now.Notices, "\n"), "/boot/firmware/nigh.toml is no secret") {
		t.Errorf("accept %s, notices %q", now.Agent.Accept, now.Notices)
	}
	// It counts once: whom the user removes stays removed.
	run(t, pi, 0, "trust", "remove", "ada")
	if err := pi.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := pi.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if trusts(t, pi, "ada") || strings.Contains(pi.Tail(), code[:9]) {
		t.Error("the file was applied again, or the code is in the log")
	}
}
