package wpa

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/wpa/dbusapi"
)

// TestPrivateEngine runs a bus and a wpa_supplicant of our own, as far as that goes without a radio: the interface is not
// there, so wpa_supplicant ends and is started again.
func TestPrivateEngine(t *testing.T) {
	for _, name := range []string{"dbus-daemon", "wpa_supplicant"} {
		if _, err := program(name); err != nil {
			t.Skipf("needs %s: install the packages dbus and wpasupplicant", name)
		}
	}
	folder, err := os.MkdirTemp("", "nigh") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	cfg := Config{Ifname: "nosuch0", Folder: folder}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	e := &privateEngine{}
	api, err := e.dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	if present, err := api.Present(t.Context()); err != nil {
		t.Errorf("the bus does not answer: %v, %v", present, err)
	}
	// It comes to the bus again and again.
	deadline := time.After(busLimit)
	for comes := 0; comes < 3; {
		select {
		case <-api.Ready():
			comes += len(api.Next())
		case <-deadline:
			t.Fatal("wpa_supplicant is not started again")
		}
	}
	// A bus that dies ends the Radio: its connection says so.
	bus := e.bus.cmd.Process.Pid
	e.bus.end(0)
	for lost := false; !lost; {
		select {
		case <-api.Ready():
			lost = slices.ContainsFunc(api.Next(), func(s dbusapi.Signal) bool { _, ok := s.(dbusapi.Disconnected); return ok })
		case <-deadline:
			t.Fatal("the end of the bus is not told")
		}
	}
	_ = api.Close() // it is closed by its other end
	e.close()
	if err := unix.Kill(bus, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the bus still runs: %v", err)
	}
	for _, name := range []string{"bus.conf", "wpa_supplicant.conf"} {
		info, err := os.Stat(filepath.Join(folder, "radio", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestPrivateEngineRefusesAnOpenFolder(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "radio"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(folder, "radio"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Ifname: "nosuch0", Folder: folder}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	if _, err := (&privateEngine{}).dial(t.Context(), cfg); !errors.Is(err, ErrEngine) {
		t.Errorf("error is %v", err)
	}
}
