package wpa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

// busLimit bounds what a real bus and a real supplicant do at once.
const busLimit = 30 * time.Second

// allowAll is the policy of a bus where everybody may do everything.
const allowAll = `<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true"/><allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_requested_reply="true"/></policy>`

// startBus runs a real dbus-daemon on a temporary address until the test ends.
func startBus(t *testing.T, policy string) string {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon: install the package dbus")
	}
	dir, err := os.MkdirTemp("", "nigh-bus") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address := "unix:path=" + filepath.Join(dir, "bus")
	config := filepath.Join(dir, "conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>%s</listen><auth>EXTERNAL</auth>%s</busconfig>`, address, policy)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ready, child, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--nopidfile", "--print-address=3")
	cmd.ExtraFiles = []*os.File{child}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if n, err := ready.Read(make([]byte, 256)); n == 0 || err != nil {
		t.Fatalf("dbus-daemon did not start: %v", err)
	}
	return address
}

// startSupplicant runs a real wpa_supplicant without a radio on a bus, and returns what kills it.
func startSupplicant(t *testing.T, address string, args ...string) (kill func()) {
	t.Helper()
	path, err := exec.LookPath("wpa_supplicant")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/wpa_supplicant"); err != nil {
			t.Skip("needs wpa_supplicant: install the package wpasupplicant")
		}
	}
	cmd := exec.Command(path, append([]string{"-u"}, args...)...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+address)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	kill = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	return kill
}

// open runs a Radio on a bus until the test ends; await waits for a status.
func open(t *testing.T, cfg Config) (r *Radio, await func(what string, ok func(Status) bool)) {
	t.Helper()
	r, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ran:
			if err != nil && !errors.Is(err, ErrNoBus) {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(busLimit):
			t.Error("Run does not return")
		}
	})
	return r, func(what string, ok func(Status) bool) {
		t.Helper()
		deadline := time.After(busLimit)
		for {
			if ok(r.Status()) {
				return
			}
			select {
			case _, open := <-r.Events():
				if !open && !ok(r.Status()) {
					t.Fatalf("no %s, Run returned; status is %+v", what, r.Status())
				}
			case <-deadline:
				t.Fatalf("no %s; status is %+v", what, r.Status())
			}
		}
	}
}

func TestNoBus(t *testing.T) {
	_, err := Open(t.Context(), Config{Bus: "unix:path=" + filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, ErrNoBus) || Hint(err) == "" {
		t.Fatalf("error is %v", err)
	}
	// Something listens and says nothing: only ctx ends that.
	silent, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{Bus: "unix:path=" + silent.Addr().String()}); !errors.Is(err, ErrNoBus) {
		t.Fatalf("error is %v", err)
	}
}

func TestNoSupplicantThenOne(t *testing.T) {
	bus := startBus(t, allowAll)
	r, await := open(t, Config{Bus: bus})
	await("no supplicant", func(s Status) bool { return s.State == Absent && errors.Is(s.Err, ErrNoSupplicant) && s.Hint != "" })
	if err := r.Find(t.Context(), time.Second); !errors.Is(err, ErrNoSupplicant) {
		t.Errorf("find: %v", err)
	}
	// It comes, without any interface: there is nothing to find with.
	kill := startSupplicant(t, bus)
	await("no interface", func(s Status) bool { return errors.Is(s.Err, ErrNoInterface) })
	kill()
	await("the loss", func(s Status) bool { return s.State == Absent && errors.Is(s.Err, ErrSupplicantGone) })
	kill = startSupplicant(t, bus)
	await("no interface again", func(s Status) bool { return errors.Is(s.Err, ErrNoInterface) })
	kill()
	if _, err := r.Connect(t.Context(), fakePeer, PBC(), ConnectOptions{}); err == nil {
		t.Error("connected without a supplicant")
	}
}

// TestInterfaceWithoutP2P gives a real supplicant an Ethernet-like interface, which cannot do P2P.
func TestInterfaceWithoutP2P(t *testing.T) {
	bus := startBus(t, allowAll)
	startSupplicant(t, bus, "-i", "lo", "-D", "none", "-C", t.TempDir())
	_, await := open(t, Config{Bus: bus, Ifname: "lo"})
	await("no P2P", func(s Status) bool { return s.State == NoP2P && errors.Is(s.Err, ErrNoP2P) && s.Hint != "" })
}

func TestDenied(t *testing.T) {
	bus := startBus(t, allowAll+`<policy context="default"><deny send_destination="fi.w1.wpa_supplicant1"/></policy>`)
	startSupplicant(t, bus)
	r, await := open(t, Config{Bus: bus})
	await("denial", func(s Status) bool {
		return s.State == Absent && errors.Is(s.Err, ErrDenied) && strings.Contains(s.Hint, "policy")
	})
	if err := r.Find(t.Context(), time.Second); !errors.Is(err, ErrDenied) {
		t.Errorf("find: %v", err)
	}
	// A bus that refuses us altogether.
	closed := startBus(t, `<policy context="default"><deny user="*"/></policy>`)
	if _, err := Open(t.Context(), Config{Bus: closed}); err == nil {
		t.Error("opened on a bus that refuses us")
	}
}

func TestBusLost(t *testing.T) {
	bus, stop := "", func() {}
	t.Run("bus", func(t *testing.T) {
		// A bus in a subtest ends with the subtest.
		bus = startBus(t, allowAll)
		r, err := Open(context.Background(), Config{Bus: bus})
		if err != nil {
			t.Fatal(err)
		}
		ran := make(chan error, 1)
		go func() { ran <- r.Run(context.Background()) }()
		<-r.Events()
		stop = func() {
			select {
			case err := <-ran:
				if !errors.Is(err, ErrNoBus) {
					t.Errorf("Run returned %v", err)
				}
			case <-time.After(busLimit):
				panic("Run does not notice that the bus is gone")
			}
		}
	})
	stop()
}

// TestForeignSignals checks that a program that sends us signals directly is not believed.
func TestForeignSignals(t *testing.T) {
	bus := startBus(t, allowAll)
	victim, err := dbusapi.Dial(t.Context(), bus)
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	liar, err := dialRaw(bus)
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	for _, to := range liar.others(t) {
		liar.sendSignal(t, to, "fi.w1.wpa_supplicant1", "InterfaceAdded")
		liar.sendSignal(t, to, "org.freedesktop.DBus", "NameOwnerChanged")
	}
	// A call of the victim after that is answered after the signals were delivered.
	if _, err := victim.Present(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := victim.Next(); len(got) != 0 {
		t.Errorf("believed %v", got)
	}
}

// TestClose checks that a Radio that never ran can be closed, once or twice.
func TestClose(t *testing.T) {
	r, err := Open(t.Context(), Config{Bus: startBus(t, allowAll)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := r.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

// TestDiagnose checks what is said where no radio is: everything else is checked in the lab.
func TestDiagnose(t *testing.T) {
	find := func(list []Finding, id string) Finding {
		for _, f := range list {
			if f.ID == id {
				return f
			}
		}
		return Finding{}
	}
	bus := startBus(t, allowAll)
	none := Diagnose(t.Context(), Config{Bus: bus})
	if f := find(none, "bus"); f.State != OK {
		t.Errorf("bus: %+v", f)
	}
	if f := find(none, "supplicant"); f.State != Fail {
		t.Errorf("supplicant: %+v", f)
	}
	startSupplicant(t, bus)
	_, await := open(t, Config{Bus: bus})
	await("supplicant", func(s Status) bool { return errors.Is(s.Err, ErrNoInterface) })
	some := Diagnose(t.Context(), Config{Bus: bus, Ifname: "nosuch0"})
	if f := find(some, "supplicant-p2p"); f.State != OK {
		t.Errorf("supplicant-p2p: %+v", f)
	}
	iwd, err := dialRaw(bus)
	if err != nil {
		t.Fatal(err)
	}
	defer iwd.Close()
	iwd.own(t, nameIWD)
	if f := find(Diagnose(t.Context(), Config{Bus: bus}), "supplicant"); f.State != Warn {
		t.Errorf("beside iwd: %+v", f)
	}
	lost := Diagnose(t.Context(), Config{Bus: "unix:path=/nonexistent/bus"})
	if f := find(lost, "bus"); f.State != Fail {
		t.Errorf("no bus: %+v", f)
	}
	for _, f := range slices.Concat(none, some, lost) {
		if f.ID == "" || f.Cause == "" || (f.State == OK) != (f.Fix == "") {
			t.Errorf("finding %+v", f)
		}
	}
}

// TestReconsider has a radio say what was true when it was opened, and look again.
func TestReconsider(t *testing.T) {
	bus := startBus(t, allowAll)
	startSupplicant(t, bus)
	r, await := open(t, Config{Bus: bus})
	await("supplicant", func(s Status) bool { return errors.Is(s.Err, ErrNoInterface) })
	why := r.Status().Why
	r.in.command(func(m *machine) { m.choice.Why, m.choice.Fix, m.dirty = "It was so.", "Mend it.", true })
	await("what was", func(s Status) bool { return s.Why == "It was so." })
	choice, err := r.Reconsider(t.Context())
	if err != nil || choice.Engine != EngineSystem || choice.Why != why {
		t.Errorf("%+v, %v", choice, err)
	}
	await("what is", func(s Status) bool { return s.Why == why })
}
