//go:build radio

package systemd

import (
	"bytes"
	"context"
	"fmt"
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

const (
	user = "alice"
	unit = "nigh@" + user + ".service"
	// patience bounds each wait; the guest is emulated, and slow.
	patience = 3 * time.Minute
)

// The shipped files on a machine as Debian sets it up: systemd, D-Bus with its policy, wpa_supplicant.service, and no
// NetworkManager. The program is bin/nigh, which make build makes.
func TestServiceOnARealSystem(t *testing.T) {
	nodes := radio.NodesOf(t, radio.Config{Nodes: 2, System: true})
	ctx := t.Context()
	binary, err := filepath.Abs("../bin/nigh")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("run make build first: %v", err)
	}
	makeUser(t)
	if said := run(t, binary, "service", "install", "--user", user); !strings.Contains(said, "nigh runs as "+user) {
		t.Errorf("service install: %s", said)
	}
	if said := run(t, "/usr/local/bin/nigh", "service", "status", "--user", user); !strings.Contains(said, "starts at each boot") {
		t.Errorf("service status: %s", said)
	}
	run(t, "systemctl", "stop", unit)
	t.Cleanup(func() { recipe(t, "uninstall", "", "/usr/local", binary) }) // or the guest's next tests are on a machine with nigh
	t.Cleanup(func() {
		if t.Failed() {
			for _, u := range []string{unit, "nigh-wifi.service", "wpa_supplicant.service", "dbus.service"} {
				out, _ := exec.Command("journalctl", "--boot", "--no-pager", "--lines=60", "--output=cat", "--unit="+u).CombinedOutput()
				t.Logf("journal of %s:\n%s", u, out)
			}
		}
	})
	before := network(t)
	run(t, "systemctl", "stop", "nigh-wifi.service") // another test may have had it find NetworkManager

	start := time.Now()
	run(t, "systemctl", "start", unit) // blocks until READY=1: the unit is of Type=notify
	t.Logf("active after %.1f s", time.Since(start).Seconds())
	state := show(t)
	if state["ActiveState"] != "active" || state["Type"] != "notify" || state["NRestarts"] != "0" {
		t.Fatalf("unit: %v", state)
	}
	process := read(t, "/proc/"+state["MainPID"]+"/status")
	uid, group := strings.TrimSpace(run(t, "id", "-u", user)), strings.Split(run(t, "getent", "group", "nigh"), ":")[2]
	for _, want := range []string{"Uid:\t" + uid + "\t", "CapEff:\t0000000000003400\n", "CapBnd:\t0000000000003400\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(process, want) {
			t.Errorf("process lacks %q:\n%s", want, process)
		}
	}
	if !slices.Contains(strings.Fields(field(process, "Groups:")), group) {
		t.Errorf("process is not in the group %s: %s", group, field(process, "Groups:"))
	}

	alice := &control.Client{Socket: "/run/nigh/" + user + "/agent.sock"}
	own := await(t, alice, "radio ready", func(s control.State) bool { return s.Status.Radio.State == "ready" }).Status
	if own.Agent.Sandbox.State != "landlock" {
		t.Errorf("under the unit's filter of system calls the agent has no sandbox: %+v", own.Agent.Sandbox)
	}
	if home := "/home/" + user + "/"; !strings.HasPrefix(own.Agent.State, home) || !strings.HasPrefix(own.Agent.Inbox, home) {
		t.Errorf("state %s, inbox %s are not in the user's home", own.Agent.State, own.Agent.Inbox)
	}
	if _, err := os.Stat(own.Agent.State); err != nil {
		t.Errorf("the state is not where other programs see it: %v", err)
	}

	// Not the test's context, which ends before the agent is stopped as it should be.
	bob, err := node.Start(context.Background(), node.Config{Binary: binary, Dir: t.TempDir(), Name: "bob", Command: nodes[1].Command})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("bob:\n%s", bob.Tail())
		}
		if err := bob.Stop(); err != nil {
			t.Error(err)
		}
	})
	other := await(t, bob.Client(), "bob's radio ready", func(s control.State) bool { return s.Status.Radio.State == "ready" }).Status
	yes := true
	for _, r := range []struct {
		client *control.Client
		change control.TrustRequest
	}{
		{alice, control.TrustRequest{Action: "add", Device: other.ID, Name: "bob"}},
		{alice, control.TrustRequest{Action: "set", Device: other.ID, AutoAccept: &yes}},
		{bob.Client(), control.TrustRequest{Action: "add", Device: own.ID, Name: user}},
	} {
		if _, err := r.client.ChangeTrust(ctx, r.change); err != nil {
			t.Fatal(err)
		}
	}

	// The two share no network: the file can only come over a Wi-Fi Direct group.
	sent := filepath.Join(t.TempDir(), "note.bin")
	if err := os.WriteFile(sent, bytes.Repeat([]byte("nigh"), 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	sending, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if out, errs, code := bob.Run(sending, "send", sent, "--to", user, "--wait"); code != 0 {
		t.Fatalf("send: exit %d: %s%s", code, out, errs)
	}
	t.Logf("group formed and file sent in %.1f s", time.Since(start).Seconds())
	arrived := filepath.Join(own.Agent.Inbox, "note.bin")
	if got, err := os.ReadFile(arrived); err != nil || !bytes.Equal(got, []byte(read(t, sent))) {
		t.Errorf("received %d bytes, %v", len(got), err)
	}
	if owner := strings.TrimSpace(run(t, "stat", "-c", "%U", arrived)); owner != user {
		t.Errorf("the received file belongs to %s", owner)
	}
	if during := network(t); slices.Equal(during, before) {
		t.Errorf("no interface and no address came with the group: %v", during)
	}

	run(t, "kill", "-9", state["MainPID"])
	poll(t, "the restart", func() bool {
		now := show(t)
		return now["NRestarts"] == "1" && now["ActiveState"] == "active" && now["MainPID"] != state["MainPID"]
	})
	await(t, alice, "radio ready after the restart", func(s control.State) bool { return s.Status.Radio.State == "ready" })

	run(t, "systemctl", "stop", unit)
	if state := show(t); state["ActiveState"] != "inactive" || state["Result"] != "success" {
		t.Errorf("stopped unit: %v", state)
	}
	poll(t, "interfaces and addresses as before the start", func() bool { return slices.Equal(network(t), before) })
	if _, err := os.Stat("/run/nigh/" + user); err == nil {
		t.Error("the folder of the socket is left behind")
	}
	run(t, "/usr/local/bin/nigh", "service", "remove")
	for _, path := range []string{"/usr/local/bin/nigh", "/usr/local/lib/systemd/system/nigh@.service", "/etc/systemd/system/multi-user.target.wants/" + unit} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("service remove leaves %s", path)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// show returns what systemd knows of the unit.
func show(t *testing.T) map[string]string {
	t.Helper()
	properties := map[string]string{}
	for line := range strings.Lines(run(t, "systemctl", "show", "--property=ActiveState,SubState,Type,MainPID,NRestarts,Result", unit)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		properties[key] = value
	}
	return properties
}

// network lists the interfaces of the machine and their addresses.
func network(t *testing.T) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(run(t, "ip", "-oneline", "link", "show")) {
		names = append(names, "link "+strings.Fields(line)[1])
	}
	for line := range strings.Lines(run(t, "ip", "-oneline", "address", "show")) {
		f := strings.Fields(line)
		names = append(names, fmt.Sprintf("address %s %s", f[1], f[3]))
	}
	slices.Sort(names)
	return names
}

// await follows an agent's events until ok is true of its state, which it returns.
func await(t *testing.T, c *control.Client, what string, ok func(control.State) bool) control.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, err := c.Watch(ctx)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	var state control.State
	for e := range events {
		node.Apply(&state, e)
		if ok(state) {
			return state
		}
	}
	t.Fatalf("%s: did not happen; radio %+v", what, state.Status.Radio)
	return state
}

// poll waits for something that has no event.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: did not happen; unit %v, network %v", what, show(t), network(t))
		case <-tick.C:
		}
	}
}

// field returns the rest of the line that begins with key.
func field(text, key string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return rest
		}
	}
	return ""
}
