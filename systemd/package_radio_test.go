//go:build radio

package systemd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// The next line asks the lab for a guest with systemd.
//lab:systemd

// The .deb from dpkg --install to dpkg --purge, as a person has it who never saw the sources: the unit of the package in its whole
// sandbox, set up by a file on the boot partition, with a hook of the user's; an agent that hangs, and is started again; and
// NetworkManager, which comes later. The package is the one in bin/packages, of lab/cmd/release.
func TestPackageOnARealSystem(t *testing.T) {
	nodes := radio.NodesOf(t, radio.Config{Nodes: 2, System: true})
	began := time.Now()
	said := func(what string) { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }
	deb := packageFile(t)
	newUser(t)
	inForce, files := filesOfSystem(t), filesOfPackage(t, deb)
	// Records of its own stand for a clean Debian: those of this machine have packages whose triggers take minutes in a guest.
	records := t.TempDir()
	for _, name := range []string{"status", "updates/.keep", "info/.keep", "triggers/.keep"} {
		write(t, filepath.Join(records, name), "", 0o644)
	}
	t.Cleanup(func() { cleanAway(t, records) })

	if out := run(t, "dpkg", "--admindir="+records, "--install", deb); !strings.Contains(out, "systemctl enable --now nigh@USER") {
		t.Errorf("dpkg does not say how nigh is started:\n%s", out)
	}
	said("installed")
	if out, err := exec.CommandContext(t.Context(), "systemctl", "is-active", unit).Output(); err == nil {
		t.Errorf("the package starts an agent: %s", out)
	}
	// Not the test's context, which ends before the agent is stopped as it should be.
	bob, err := node.Start(context.Background(), node.Config{Binary: packagedProgram, Dir: t.TempDir(), Name: "bob", Command: nodes[1].Command})
	if err != nil {
		t.Fatal(err)
	}
	stopBob := func() {
		if bob == nil {
			return
		}
		if t.Failed() {
			t.Logf("bob:\n%s", bob.Tail())
		}
		if err := bob.Stop(); err != nil {
			t.Error(err)
		}
		bob = nil
	}
	t.Cleanup(stopBob)
	other := await(t, bob.Client(), "bob's radio ready", radioReady).Status

	// What a person puts on the card of a device that nobody sits at, and what its user wants done with what arrives.
	write(t, "/boot/nigh.toml", "name = \"kiosk\"\naccept = \"trusted\"\ntrusted = [\""+other.ID+"\"]\n", 0o644)
	t.Cleanup(func() { _ = os.Remove("/boot/nigh.toml") }) // the guest's, and it ends soon
	home := "/home/" + user
	write(t, home+"/bin/hook", "#!/bin/sh\ncat >"+home+"/told.new && mv "+home+"/told.new "+home+"/told\n", 0o755)
	write(t, home+"/.config/nigh/config.toml", "[hooks]\non_received = [\""+home+"/bin/hook\"]\n", 0o600)
	run(t, "chown", "-R", user+":", home)
	// A hung agent is found out sooner than in the minute of the unit, and it says more, for a test that fails.
	dropIn := "/run/systemd/system/" + unit + ".d/sooner.conf"
	write(t, dropIn, "[Service]\nWatchdogSec=20\nEnvironment=NIGH_LOG=debug\n", 0o644)

	before := network(t)
	run(t, "systemctl", "enable", "--now", unit) // blocks until READY=1: the unit is of Type=notify
	said("active")
	state := show(t)
	if state["ActiveState"] != "active" || state["Type"] != "notify" || state["NRestarts"] != "0" {
		t.Fatalf("unit: %v", state)
	}
	alice := &control.Client{Socket: "/run/nigh/" + user + "/agent.sock"}
	own := await(t, alice, "radio ready", radioReady).Status
	if own.Name != "kiosk" || own.Agent.Sandbox.State != "landlock" {
		t.Errorf("with the file on the boot partition the agent is %q, its sandbox %+v, its notices %q", own.Name, own.Agent.Sandbox, own.Notices)
	}
	// In the other direction the file has said so.
	if _, err := bob.Client().ChangeTrust(t.Context(), control.TrustRequest{Action: "add", Device: own.ID, Name: "kiosk"}); err != nil {
		t.Fatal(err)
	}
	// The two share no network: a file can only come over a Wi-Fi Direct group.
	moves := func(name string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		write(t, path, strings.Repeat(name, 32<<10), 0o600)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if out, errs, code := bob.Run(ctx, "send", path, "--to", "kiosk", "--wait"); code != 0 {
			t.Fatalf("send: exit %d: %s%s", code, out, errs)
		}
		arrived := filepath.Join(own.Agent.Inbox, name)
		if got, err := os.ReadFile(arrived); err != nil || !bytes.Equal(got, []byte(read(t, path))) {
			t.Errorf("received %d bytes of %s, %v", len(got), name, err)
		}
		if owner := strings.TrimSpace(run(t, "stat", "-c", "%U", arrived)); owner != user {
			t.Errorf("%s belongs to %s", name, owner)
		}
		said("group formed, and sent " + name)
	}
	moves("first")
	if during := network(t); slices.Equal(during, before) {
		t.Errorf("no interface and no address came with the group: %v", during)
	}
	poll(t, "the hook", func() bool { _, err := os.Stat(home + "/told"); return err == nil })
	var told struct{ Event string }
	if err := json.Unmarshal([]byte(read(t, home+"/told")), &told); err != nil || told.Event != "received" {
		t.Errorf("the hook was told %q, %v", told.Event, err)
	}

	run(t, "kill", "-STOP", state["MainPID"])
	poll(t, "the watchdog's restart", func() bool {
		now := show(t)
		return now["NRestarts"] == "1" && now["ActiveState"] == "active" && now["MainPID"] != state["MainPID"]
	})
	said("the watchdog has started it again")
	if journal := run(t, "journalctl", "--boot", "--no-pager", "--output=cat", "--unit="+unit); !strings.Contains(journal, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", journal)
	}
	await(t, alice, "radio ready after the restart", radioReady)
	moves("second")

	run(t, "systemctl", "stop", unit)
	if state := show(t); state["ActiveState"] != "inactive" || state["Result"] != "success" {
		t.Errorf("stopped unit: %v", state)
	}
	poll(t, "interfaces and addresses as before the start", func() bool { return slices.Equal(network(t), before) })
	if _, err := os.Stat("/run/nigh/" + user); err == nil {
		t.Error("the folder of the socket is left behind")
	}
	said("stopped")
	userUnit(t)
	said("the user's own unit has run")

	// NetworkManager takes the radio, as on a desktop, and the package's program says what to do about that.
	if err := nodes[0].StartNetworkManager(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	run(t, packagedProgram, "doctor", "--fix", "networkmanager", "--yes")
	before = network(t)
	said("NetworkManager runs")
	run(t, "systemctl", "start", unit)
	await(t, alice, "radio ready beside NetworkManager", radioReady)
	moves("third")
	stopBob()

	// With an agent that runs, and what the doctor has changed.
	if err := os.RemoveAll(filepath.Dir(dropIn)); err != nil {
		t.Fatal(err)
	}
	run(t, "dpkg", "--admindir="+records, "--purge", "nigh")
	said("purged")
	poll(t, "interfaces and addresses as before the start", func() bool { return slices.Equal(network(t), before) })
	for _, name := range files {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("purge leaves %s", name)
		}
	}
	if left := filesOfSystem(t); !slices.Equal(left, inForce) {
		t.Errorf("purge leaves %q, and takes away %q", without(left, inForce), without(inForce, left))
	}
	if out, err := exec.CommandContext(t.Context(), "getent", "group", "nigh").Output(); err == nil {
		t.Errorf("purge leaves the group %s", out)
	}
	if units := run(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", "nigh@*", "nigh-wifi*"); units != "" {
		t.Errorf("purge leaves units: %s", units)
	}
	for _, kept := range []string{filepath.Join(own.Agent.Inbox, "third"), filepath.Join(own.Agent.State, "key.pem"), home + "/.config/nigh/config.toml"} {
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("purge took what is the user's: %v", err)
		}
	}
}

// userUnit starts the unit for a user without rights in a session of the user's, and stops it.
func userUnit(t *testing.T) {
	t.Helper()
	uid := strings.TrimSpace(run(t, "id", "-u", user))
	run(t, "systemctl", "start", "user@"+uid+".service")
	runtime := "/run/user/" + uid
	own := func(args ...string) string {
		t.Helper()
		return run(t, "setpriv", append([]string{"--reuid=" + user, "--regid=" + user, "--clear-groups", "env", "HOME=/home/" + user, "XDG_RUNTIME_DIR=" + runtime}, args...)...)
	}
	own("systemctl", "--user", "start", "nigh.service")
	status, err := (&control.Client{Socket: runtime + "/nigh/agent.sock"}).Status(t.Context())
	if err != nil || status.Name != "kiosk" || status.Radio.State == "ready" {
		t.Errorf("the user's unit: %v: %q with radio %q", err, status.Name, status.Radio.State)
	}
	own("systemctl", "--user", "stop", "nigh.service")
	run(t, "systemctl", "stop", "user@"+uid+".service")
}

func radioReady(s control.State) bool { return s.Status.Radio.State == "ready" }

// packageFile is the path of the package.
func packageFile(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("../bin/packages/nigh-*-amd64.deb")
	if err != nil || len(found) != 1 {
		t.Fatalf("%d packages in bin/packages, %v: run go run ./lab/cmd/release -arch amd64 -formats deb -out bin/packages first", len(found), err)
	}
	return found[0]
}

// newUser makes the user anew: another test of this guest may have run an agent in the home.
func newUser(t *testing.T) {
	t.Helper()
	if err := exec.Command("id", user).Run(); err == nil {
		run(t, "userdel", "--remove", user)
	}
	makeUser(t)
}

// cleanAway has the guest's next tests be on a machine without nigh, whatever has failed.
func cleanAway(t *testing.T, records string) {
	// Not the test's context, which has ended.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if t.Failed() {
		for _, u := range []string{unit, "nigh-wifi.service", "NetworkManager.service", "wpa_supplicant.service"} {
			out, _ := exec.CommandContext(ctx, "journalctl", "--boot", "--no-pager", "--lines=60", "--output=cat", "--unit="+u).CombinedOutput()
			t.Logf("journal of %s:\n%s", u, out)
		}
	}
	err := os.RemoveAll("/run/systemd/system/" + unit + ".d")
	if _, installed := os.Stat(packagedProgram); installed == nil {
		err = errors.Join(err, exec.CommandContext(ctx, "dpkg", "--admindir="+records, "--purge", "nigh").Run())
	}
	if err := errors.Join(err, exec.CommandContext(ctx, "systemctl", "daemon-reload").Run()); err != nil {
		t.Error(err)
	}
}

// filesOfPackage lists the package's files, and the folders that no other has.
func filesOfPackage(t *testing.T, deb string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(run(t, "dpkg-deb", "--contents", deb)) {
		name := strings.TrimPrefix(strings.Fields(line)[5], ".")
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			names = append(names, name)
		}
	}
	if len(names) < 20 {
		t.Fatalf("the package has only %q", names)
	}
	return names
}

// filesOfSystem lists what is configured on the machine, what programs keep, and what is nigh's of what they have for the time
// that they run.
func filesOfSystem(t *testing.T) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(run(t, "sh", "-c", `find /etc /var/lib -path /var/lib/dpkg -prune -o -path /var/lib/NetworkManager -prune -o -path /var/lib/systemd -prune -o -print
		find /run -path /run/lab -prune -o -name '*nigh*' -print`)) {
		// Backups of passwd and its like, and the lock of whoever changes them.
		if name := strings.TrimSpace(line); !strings.HasSuffix(name, "-") && name != "/etc/.pwd.lock" && !strings.HasPrefix(name, "/run/systemd/units/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// without returns what is in a and not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
