package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
)

// TestBugReportTellsNothing has two real agents meet under telling names, and looks for those in the report.
func TestBugReportTellsNothing(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "192.168.77.31/24", "2001:db8:77::31/64")
	lan.Join(hb, "eth0", "192.168.77.32/24")
	ada, bob := start(t, ha, "Ada Lovelace"), start(t, hb, "Roberts Rechner")
	befriend(t, ada, bob)
	if err := ada.Await(within(t, 30*time.Second), hasPeer("Roberts Rechner", "ready")); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "Kündigung.odt")
	random(t, secret, 1000)
	if _, errs, code := ada.Run(within(t, 30*time.Second), "send", secret, "--to", "Roberts Rechner"); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	file := filepath.Join(ada.Dir, "report.txt")
	if out, errs, code := ada.Run(within(t, time.Minute), "bug-report", file); code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var peers []control.Peer
	if err := ada.JSON(t.Context(), &peers, "peers"); err != nil {
		t.Fatal(err)
	}
	status, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"Lovelace", "Roberts", "Rechner", "192.168.77.31", "192.168.77.32", "db8:77", "Kündigung", "ndigung", status.ID, status.Short, peers[0].ID, peers[0].Short, "TestBugReport"}
	for _, mac := range []string{ha.IP("-brief", "link", "show", "dev", "eth0"), hb.IP("-brief", "link", "show", "dev", "eth0")} {
		secrets = append(secrets, strings.Fields(mac)[2])
	}
	if host, err := os.Hostname(); err == nil && len(host) > 4 {
		secrets = append(secrets, host)
	}
	for _, s := range secrets {
		if strings.Contains(strings.ToLower(text), strings.ToLower(s)) {
			t.Errorf("%q is in the report", s)
		}
	}
	for _, part := range []string{"== Program\n", "== Links\neth0 ethernet up=true", "== Checks\nok   usable", "== Status\n{", `"state": "ready"`, "== Log\n", "Agent starts", "Device is near", "192.168.77."} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in the report", part)
		}
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
}
