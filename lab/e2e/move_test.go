package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/lab"
)

// A device moves to a new machine with its key: those that trust it go on without a question. While both machines run they say so.
func TestDeviceMovesToANewMachine(t *testing.T) {
	const phrase = "correct horse battery staple\n"
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	hosts := map[string]*lab.Host{}
	for name, addr := range map[string]string{"old": "10.0.0.1/24", "bob": "10.0.0.2/24", "new": "10.0.0.3/24"} {
		hosts[name] = n.Host(name)
		lan.Join(hosts[name], "eth0", addr)
	}
	old, bob := start(t, hosts["old"], "ada"), start(t, hosts["bob"], "bob")
	befriend(t, old, bob)
	if err := bob.Await(within(t, time.Minute), hasPeer("ada", "ready")); err != nil {
		t.Fatal(err)
	}
	id := func(out string) string { return strings.Fields(out)[0] }
	was := id(run(t, old, 0, "id"))
	file := filepath.Join(t.TempDir(), "ada.json")
	d := ask(t, old, phrase, "trust", "export", "--key", "--passphrase-file", "-", file)
	if d.code != 0 || !strings.Contains(d.errs, "two machines must never be one device") || strings.Contains(d.out+d.errs+old.Tail(), "horse") {
		t.Fatalf("export: %+v", d)
	}

	fresh := start(t, hosts["new"], "ada")
	take := func(args ...string) done {
		return ask(t, fresh, phrase, append([]string{"trust", "import", "--key", "--state", fresh.State, "--passphrase-file", "-", file}, args...)...)
	}
	if d := take("--replace-key"); d.code == 0 || !strings.Contains(d.errs, "stop it first") {
		t.Fatalf("import under a running agent: %+v", d)
	}
	if err := fresh.Stop(); err != nil {
		t.Fatal(err)
	}
	if d := take(); d.code != 7 || !strings.Contains(d.errs, "--replace-key") {
		t.Fatalf("import over another key: %+v", d)
	}
	if d := take("--replace-key"); d.code != 0 || !strings.Contains(d.errs, "must not run nigh with it any more") {
		t.Fatalf("import: %+v", d)
	}
	if err := fresh.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := id(run(t, fresh, 0, "id")); now != was {
		t.Fatalf("the new machine is %s, the old one was %s", now, was)
	}
	// Nobody keeps that quiet.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for limit := within(t, time.Minute); ; {
		if strings.Contains(run(t, fresh, 0, "status"), "this device's ID") {
			break
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			t.Fatalf("two machines with one key, and status says\n%s", run(t, fresh, 0, "status"))
		}
	}
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Await(within(t, time.Minute), hasPeer("bob", "ready")); err != nil {
		t.Fatalf("%v\n%s", err, fresh.Tail())
	}
	run(t, fresh, 0, "msg", "from the new machine", "--to", "bob")
}
