//go:build radio

package systemd

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/radio"
)

// The next line asks the lab for a guest with systemd.
//lab:systemd

// On a machine whose Wi-Fi NetworkManager manages, as Debian's desktops are: a group is removed, and nigh says by whom and what
// to do; what it says helps; and it can be taken back.
func TestFixBesideNetworkManager(t *testing.T) {
	nodes := radio.NodesOf(t, radio.Config{Nodes: 1, System: true})
	nigh := settle(t)
	if err := nodes[0].StartNetworkManager(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	const remedy = "sudo nigh doctor --fix networkmanager"
	run(t, "systemctl", "start", unit)
	alice := &control.Client{Socket: "/run/nigh/" + user + "/agent.sock"}
	status := await(t, alice, "radio ready", func(s control.State) bool { return s.Status.Radio.State == "ready" }).Status
	if status.Radio.Engine != "system" || status.Radio.Why == "" || !strings.Contains(status.Radio.Hint, remedy) {
		t.Errorf("radio: %+v", status.Radio)
	}
	if c := check(t, alice); c.State != "warn" || !strings.Contains(c.Fix, remedy) {
		t.Errorf("doctor: %+v", c)
	}
	if out, err := asUser(t, nigh, "group", "create"); err == nil {
		await(t, alice, "end of the group", func(s control.State) bool { return len(s.Status.Groups) == 0 })
		t.Logf("the group was up before it was removed: %s", out)
	} else if !strings.Contains(out, "NetworkManager") || !strings.Contains(out, remedy) {
		t.Errorf("group create: %s", out)
	}

	// Only root may, and the whole command is said.
	if out, err := asUser(t, nigh, "doctor", "--fix", "networkmanager", "--yes"); err == nil || !strings.Contains(out, "sudo "+nigh+" doctor --fix networkmanager") {
		t.Errorf("as the user: %v: %s", err, out)
	}
	out := run(t, nigh, "doctor", "--fix", "networkmanager", "--yes")
	if !strings.Contains(out, KeepPolicy[strings.Index(KeepPolicy, "<policy"):strings.Index(KeepPolicy, ">\n    <deny")]) || !strings.Contains(out, "--undo") {
		t.Errorf("the fix says: %s", out)
	}
	await(t, alice, "no hint at what was mended", func(s control.State) bool { return !strings.Contains(s.Status.Radio.Hint, remedy) })
	if c := check(t, alice); c.State != "ok" {
		t.Errorf("doctor after the fix: %+v", c)
	}
	out, err := asUser(t, nigh, "group", "create")
	if err != nil {
		t.Fatalf("group create after the fix: %s", out)
	}
	alone := time.NewTimer(10 * time.Second)
	defer alone.Stop()
	<-alone.C
	if s, err := alice.Status(t.Context()); err != nil || len(s.Groups) != 1 {
		t.Errorf("groups after ten seconds: %+v, %v", s.Groups, err)
	}
	if out, err := asUser(t, nigh, "group", "leave"); err != nil {
		t.Errorf("group leave: %s", out)
	}

	run(t, nigh, "doctor", "--fix", "networkmanager", "--undo", "--yes")
	await(t, alice, "the hint again", func(s control.State) bool { return strings.Contains(s.Status.Radio.Hint, remedy) })
	if c := check(t, alice); c.State != "warn" {
		t.Errorf("doctor after taking it back: %+v", c)
	}
	if out, err := asUser(t, nigh, "group", "create"); err == nil {
		await(t, alice, "end of the group", func(s control.State) bool { return len(s.Status.Groups) == 0 })
	} else if !strings.Contains(out, remedy) {
		t.Errorf("group create after taking it back: %s", out)
	}
}

// A wpa_supplicant of nigh's own works inside the unit's sandbox, with the unit's rights, and ends with the unit.
func TestPrivateEngineInTheSandbox(t *testing.T) {
	radio.NodesOf(t, radio.Config{Nodes: 1, System: true})
	nigh := settle(t)
	run(t, "systemctl", "mask", "--runtime", "nigh-wifi.service") // or the system's would get the radio
	dropIn := "/run/systemd/system/" + unit + ".d"
	if err := os.MkdirAll(dropIn, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dropIn, "engine.conf"), []byte("[Service]\nEnvironment=NIGH_ENGINE=private\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "systemctl", "daemon-reload")
	before := network(t)
	run(t, "systemctl", "start", unit)
	alice := &control.Client{Socket: "/run/nigh/" + user + "/agent.sock"}
	status := await(t, alice, "radio ready", func(s control.State) bool { return s.Status.Radio.State == "ready" }).Status
	if status.Radio.Engine != "private" || status.Radio.Address == "" {
		t.Errorf("radio: %+v", status.Radio)
	}
	if out, err := asUser(t, nigh, "group", "create"); err != nil {
		t.Errorf("group create: %s", out)
	}
	processes := strings.Fields(run(t, "sh", "-c", "cat /sys/fs/cgroup/system.slice/system-nigh.slice/"+unit+"/cgroup.procs"))
	if len(processes) != 4 { // the agent, its broker, a bus and a wpa_supplicant
		t.Errorf("the unit has the processes %v", processes)
	}
	run(t, "systemctl", "stop", unit)
	if state := show(t); state["Result"] != "success" {
		t.Errorf("stopped unit: %v", state)
	}
	for _, pid := range processes {
		if _, err := os.Stat("/proc/" + pid); err == nil {
			t.Errorf("process %s is left", pid)
		}
	}
	poll(t, "interfaces and addresses as before the start", func() bool { return strings.Join(network(t), "\n") == strings.Join(before, "\n") })
}

// settle installs nigh for the user until the end of the test, and returns the path of the program.
func settle(t *testing.T) (nigh string) {
	t.Helper()
	binary, err := filepath.Abs("../bin/nigh")
	if err != nil {
		t.Fatal(err)
	}
	makeUser(t)
	t.Logf("%s", recipe(t, "install", "", "/usr/local", binary))
	t.Cleanup(func() { recipe(t, "uninstall", "", "/usr/local", binary) }) // or the guest's next tests are on a machine with nigh
	t.Cleanup(func() {
		// Not the test's context, which has ended.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			for _, u := range []string{unit, "NetworkManager.service", "wpa_supplicant.service"} {
				out, _ := exec.CommandContext(ctx, "journalctl", "--boot", "--no-pager", "--lines=60", "--output=cat", "--unit="+u).CombinedOutput()
				t.Logf("journal of %s:\n%s", u, out)
			}
		}
		err := errors.Join(
			exec.CommandContext(ctx, "systemctl", "stop", unit).Run(),
			exec.CommandContext(ctx, "sh", "-c", "rm -rf /run/systemd/system/"+unit+".d; systemctl unmask --runtime nigh-wifi.service; systemctl daemon-reload").Run(),
		)
		if err != nil {
			t.Error(err)
		}
	})
	return "/usr/local/bin/nigh"
}

// makeUser makes the user, unless another test of this guest has.
func makeUser(t *testing.T) {
	t.Helper()
	if err := exec.Command("id", user).Run(); err != nil {
		run(t, "useradd", "--create-home", "--shell", "/bin/sh", user)
	}
}

// asUser runs nigh as the user whose agent it is, and returns all that it printed.
func asUser(t *testing.T, nigh string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := append([]string{"--reuid=" + user, "--regid=" + user, "--clear-groups", "env", "NIGH_SOCKET=/run/nigh/" + user + "/agent.sock", nigh}, args...)
	out, err := exec.CommandContext(ctx, "setpriv", command...).CombinedOutput()
	return string(out), err
}

// check is what the agent's doctor says about NetworkManager.
func check(t *testing.T, c *control.Client) control.Check {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	checks, err := c.Doctor(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.ID == "networkmanager" {
			return c
		}
	}
	t.Fatalf("nothing about NetworkManager in %+v", checks)
	panic("unreachable")
}
