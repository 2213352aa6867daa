package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/lab"
	"nigh/lab/node"
)

// A device that nobody sits at gets its setup code from a file, or as a credential of its service, and says it nowhere.
func TestSetupCodeGivenToAHeadlessDevice(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	hosts := map[string]*lab.Host{}
	for name, addr := range map[string]string{"ada": "10.0.0.1/24", "pi1": "10.0.0.2/24", "pi2": "10.0.0.3/24"} {
		hosts[name] = n.Host(name)
		lan.Join(hosts[name], "eth0", addr)
	}
	ada := start(t, hosts["ada"], "ada")
	// A code that another device made is as good as one from a generator.
	code := strings.TrimSpace(run(t, ada, 0, "setup-code"))
	dir := t.TempDir()
	path := filepath.Join(dir, "setup-code")
	if err := os.WriteFile(path, []byte(code+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pi1 := start(t, hosts["pi1"], "pi1", "--setup-code-file", path)
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	pi2 := start(t, hosts["pi2"], "pi2")
	for _, name := range []string{"pi1", "pi2"} {
		if err := ada.Await(within(t, time.Minute), hasPeer(name, "visible")); err != nil {
			t.Fatal(err)
		}
		if d := ask(t, ada, code, "pair", name, "--code", "-"); d.code != 0 {
			t.Errorf("pairing with %s: %+v", name, d)
		}
	}
	for _, pi := range []*node.Agent{pi1, pi2} {
		if err := pi.Await(within(t, time.Minute), hasPeer("ada", "ready")); err != nil || !trusts(t, pi, "ada") {
			t.Errorf("%s does not trust ada: %v", pi.Name, err)
		}
	}
	if strings.Contains(pi1.Tail()+pi2.Tail()+ada.Tail(), code[:9]) {
		t.Error("the code is in a log")
	}
	// A file that others can read is no secret: the agent says so and does not start.
	if err := pi1.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := pi1.Start(within(t, time.Minute)); err == nil || !strings.Contains(pi1.Tail(), "chmod 600") {
		t.Errorf("with a code that everybody can read: %v\n%s", err, pi1.Tail())
	}
}
