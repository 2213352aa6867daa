//go:build radio

package air_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
	"nigh/lab/radio"
	"nigh/link/dhcp"
)

// TestDeadAgentIsUndone kills both agents of a group with signal 9, starts them again and stops them: then the radios are as
// they were before the first start, and in between the devices work.
func TestDeadAgentIsUndone(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	var before []string
	for _, n := range nodes {
		before = append(before, state(t, n))
	}
	agents := []*node.Agent{agentOn(t, nodes[0], "ada", "--accept", "trusted"), agentOn(t, nodes[1], "bob", "--accept", "trusted")}
	ada, bob := agents[0], agents[1]
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(t.TempDir(), "first")
	random(t, note, 1000)
	nigh(t, ada, 3*time.Minute, "send", note, "--to", "bob", "--wait")
	for _, a := range agents {
		await(t, a, time.Minute, inGroup)
		if err := a.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range agents {
		if now := state(t, nodes[i]); now == before[i] {
			t.Errorf("%s left nothing behind when it was killed, so there is nothing to undo", a.Name)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitRadio(t, a)
	}
	second := filepath.Join(t.TempDir(), "second")
	random(t, second, 1000)
	began := time.Now()
	nigh(t, bob, 3*time.Minute, "send", second, "--to", "ada", "--wait")
	t.Logf("a file moved %.1f s after the agents were back", time.Since(began).Seconds())
	same(t, second, ada)
	for i, a := range agents {
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, func() string {
			if now := state(t, nodes[i]); now != before[i] {
				return fmt.Sprintf("%s did not put everything back:\n%s\nbefore it was:\n%s", a.Name, now, before[i])
			}
			return ""
		})
	}
}

// state is everything about a node's radio that an agent changes: the supplicant's settings and profiles, interfaces and
// addresses.
func state(t *testing.T, n *radio.Node) string {
	t.Helper()
	conn, err := dbus.Connect(n.Bus, dbus.WithContext(within(t, time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const name = "fi.w1.wpa_supplicant1"
	var path dbus.ObjectPath
	if err := conn.Object(name, "/fi/w1/wpa_supplicant1").Call(name+".GetInterface", 0, n.Ifname).Store(&path); err != nil {
		t.Fatal(err)
	}
	get := func(path dbus.ObjectPath, property string) any {
		v, err := conn.Object(name, path).GetProperty(name + "." + property)
		if err != nil {
			t.Fatalf("%s: %v", property, err)
		}
		return v.Value()
	}
	var out strings.Builder
	config, ok := get(path, "Interface.P2PDevice.P2PDeviceConfig").(map[string]dbus.Variant)
	if !ok {
		t.Fatal("the supplicant has no P2P configuration")
	}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if v := config[key]; v.Value() != "" { // an empty text is as good as none
			fmt.Fprintf(&out, "%s = %v\n", key, v)
		}
	}
	methods := get(path, "Interface.ConfigMethods")
	if methods == "" {
		methods = "display keypad" // has the same effect, and 2.10 does not take "" back
	}
	fmt.Fprintf(&out, "methods = %v\nprofiles = %v\ninterfaces = %v\n", methods, get(path, "Interface.P2PDevice.PersistentGroups"), get("/fi/w1/wpa_supplicant1", "Interfaces"))
	for line := range strings.Lines(output(t, n, "ip", "-o", "address")) {
		fields := strings.Fields(line)
		fmt.Fprintf(&out, "address %s on %s\n", fields[3], fields[1])
	}
	for line := range strings.Lines(output(t, n, "iw", "dev")) {
		if fields := strings.Fields(line); len(fields) > 1 && (fields[0] == "Interface" || fields[0] == "type") {
			fmt.Fprintf(&out, "%s %s\n", fields[0], fields[1])
		}
	}
	return out.String()
}

// TestLeaveAlwaysAnswers leaves while a group is formed, twice in a row, while the supplicant hangs and when it is gone. The
// answer comes within ten seconds: it is gone, or why not.
func TestLeaveAlwaysAnswers(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	ada, bob := agentOn(t, nodes[0], "ada"), agentOn(t, nodes[1], "bob")
	leave := func(want ...string) {
		t.Helper()
		began := time.Now()
		err := ada.Client().LeaveGroup(within(t, time.Minute), control.AnyGroup)
		took := time.Since(began)
		t.Logf("answered after %.1f s: %v", took.Seconds(), err)
		if took > 10*time.Second && took > lab.Bound(t, 10*time.Second) {
			t.Errorf("the answer took %v", took)
		}
		code := ""
		if e, ok := errors.AsType[*control.Error](err); ok {
			code = e.Code
		}
		if !slices.Contains(want, code) {
			t.Errorf("leaving: %v, want one of %q", err, want)
		}
	}

	// Bob's person does not answer, so the group is being formed for two minutes.
	if err := ada.Client().Find(within(t, time.Minute), control.FindRequest{Seconds: 20}); err != nil {
		t.Fatal(err)
	}
	await(t, ada, time.Minute, hasPeer("bob", "visible"))
	joined := make(chan error, 1)
	ctx := within(t, 3*time.Minute)
	go func() { // awaited below
		_, err := ada.Client().Group(ctx, control.GroupRequest{Action: "join", Device: "bob"})
		joined <- err
	}()
	await(t, bob, time.Minute, func(s control.State) bool { return len(s.Inbox) == 1 })
	leave("")
	if err := <-joined; !errors.Is(err, &control.Error{Code: control.CodeFailed}) {
		t.Errorf("joining ended with %v", err)
	}
	leave(control.CodeNotFound)

	create := func() {
		t.Helper()
		if _, err := ada.Client().Group(within(t, time.Minute), control.GroupRequest{Action: "create"}); err != nil {
			t.Fatal(err)
		}
		await(t, ada, time.Minute, inGroup)
	}
	gone := func() {
		t.Helper()
		eventually(t, time.Minute, func() string {
			if out := output(t, nodes[0], "ip", "-o", "link"); strings.Contains(out, "p2p-") {
				return "the interface of the group is still there: " + out
			}
			return ""
		})
	}
	create()
	leave("")
	leave(control.CodeNotFound)
	gone()

	create()
	if err := syscall.Kill(nodes[0].SupplicantPID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	leave(control.CodeTimeout)
	if err := syscall.Kill(nodes[0].SupplicantPID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	gone()

	create()
	if err := nodes[0].KillSupplicant(); err != nil {
		t.Fatal(err)
	}
	leave(control.CodeNotFound, control.CodeNoRadio, "")
	gone()
	if err := nodes[0].StartSupplicant(); err != nil {
		t.Fatal(err)
	}
	awaitRadio(t, ada)
	create()
	leave("")
}

// TestSupplicantKilledAtEveryStep kills wpa_supplicant with signal 9 while a device is looked for, while roles are negotiated and
// in a group; each time a file that is sent, before or after, arrives by itself. (In a transfer: TestOneCommandOverWiFiDirect.)
func TestSupplicantKilledAtEveryStep(t *testing.T) {
	nodes, agents := trusting(t, 2)
	ada, bob := agents[0], agents[1]
	src := t.TempDir()
	crash := func() {
		t.Helper()
		if err := nodes[0].KillSupplicant(); err != nil {
			t.Fatal(err)
		}
		if err := nodes[0].StartSupplicant(); err != nil {
			t.Fatal(err)
		}
	}
	send := func(name string) string {
		t.Helper()
		file := filepath.Join(src, name)
		random(t, file, 1<<20)
		if _, err := ada.Client().Send(within(t, time.Minute), control.SendRequest{Paths: []string{file}, To: []string{"bob"}}); err != nil {
			t.Fatal(err)
		}
		return file
	}
	arrives := func(file string, since time.Time) {
		t.Helper()
		await(t, bob, 4*time.Minute, received(filepath.Base(file)))
		t.Logf("%s was whole %.1f s after the crash", filepath.Base(file), time.Since(since).Seconds())
		same(t, file, bob)
	}

	if err := ada.Client().Find(within(t, time.Minute), control.FindRequest{Seconds: 60}); err != nil {
		t.Fatal(err)
	}
	await(t, ada, time.Minute, func(s control.State) bool { return s.Status.Radio.Finding })
	since := time.Now()
	crash()
	await(t, ada, time.Minute, func(s control.State) bool { return s.Status.Radio.Finding })
	t.Logf("it looks again %.1f s after the crash", time.Since(since).Seconds())
	await(t, ada, time.Minute, hasPeer("bob", "visible"))

	negotiating := stepOf(t, ada, "negotiate", "running")
	file := send("negotiation")
	negotiating()
	since = time.Now()
	crash()
	arrives(file, since)

	await(t, ada, time.Minute, inGroup)
	since = time.Now()
	crash()
	arrives(send("group"), since)
}

// stepOf begins to watch for a step of an agent; the function that it returns waits for it.
func stepOf(t *testing.T, a *node.Agent, name, in string) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	events, err := a.Client().Watch(ctx)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		defer cancel()
		for e := range events {
			if e.Step != nil && e.Step.Name == name && e.Step.State == in {
				return
			}
		}
		t.Fatalf("%s: no step %s %s", a.Name, name, in)
	}
}

// TestPlainClient lets a device that knows nothing of Wi-Fi Direct join by what nigh group qr says; its coming, its address and
// its going are seen.
func TestPlainClient(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	ada, phone := agentOn(t, nodes[0], "ada"), nodes[1]
	nigh(t, ada, time.Minute, "group", "create")
	var access struct{ SSID, Passphrase, URI string }
	if err := ada.JSON(within(t, time.Minute), &access, "group", "qr"); err != nil {
		t.Fatal(err)
	}
	if want := "WIFI:T:WPA;S:" + access.SSID + ";P:" + access.Passphrase + ";;"; access.URI != want || len(access.Passphrase) < 8 {
		t.Errorf("the code says %q, want %q", access.URI, want)
	}
	status, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	network := radio.Network{SSID: access.SSID, Passphrase: access.Passphrase, Frequency: status.Groups[0].Frequency}
	if err := phone.Join(within(t, 2*time.Minute), network); err != nil {
		t.Fatal(err)
	}
	clients := func(n int, ok func(control.Station) bool) func(control.State) bool {
		return func(s control.State) bool {
			return len(s.Status.Groups) == 1 && s.Status.Groups[0].Clients == n && len(s.Status.Groups[0].Stations) == n &&
				!slices.ContainsFunc(s.Status.Groups[0].Stations, func(st control.Station) bool { return !ok(st) })
		}
	}
	await(t, ada, time.Minute, clients(1, func(s control.Station) bool { return s.Address != "" }))
	var lease dhcp.Lease
	if err := phone.Do(func() (err error) {
		lease, err = dhcp.Acquire(within(t, time.Minute), dhcp.ClientConfig{Ifname: phone.Ifname})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	await(t, ada, time.Minute, clients(1, func(s control.Station) bool { return s.IPv4 == lease.Prefix.Addr().String() }))
	if out := nigh(t, ada, time.Minute, "group", "show"); !strings.Contains(out, lease.Prefix.Addr().String()) {
		t.Errorf("nigh group show does not show the client:\n%s", out)
	}
	if err := phone.Part(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	await(t, ada, time.Minute, clients(0, nil))
	nigh(t, ada, time.Minute, "group", "leave")
}
