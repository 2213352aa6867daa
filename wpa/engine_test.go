package wpa

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestChooseEngine(t *testing.T) {
	lacking := errors.New("no rights")
	nm := surroundings{nm: true, managed: []string{"wlan0"}, owns: []string{"wlan0"}, privately: lacking}
	with := func(change func(*surroundings)) surroundings {
		s := nm
		s.privately = nil
		change(&s)
		return s
	}
	for _, tt := range []struct {
		name   string
		s      surroundings
		cfg    Config
		engine Engine
		ifname string
		fix    bool
		err    error
	}{
		{name: "no NetworkManager", s: surroundings{free: []string{"wlan0"}}, engine: EngineSystem},
		{name: "no bus", s: surroundings{busErr: lacking, privately: lacking}, engine: EngineSystem},
		{name: "no bus, free adapter", s: surroundings{busErr: lacking, free: []string{"wlan0"}}, engine: EnginePrivate, ifname: "wlan0"},
		{name: "denied, free adapter", s: surroundings{denied: true, free: []string{"wlan0"}}, engine: EnginePrivate, ifname: "wlan0"},
		{name: "denied, nothing free", s: surroundings{denied: true}, engine: EngineSystem},
		{name: "policy", s: with(func(s *surroundings) { s.policy = "/p"; s.free = []string{"wlan1"} }), engine: EngineSystem},
		{name: "policy, but it failed", s: with(func(s *surroundings) { s.policy = "/p"; s.killed = true; s.free = []string{"wlan1"} }), engine: EnginePrivate, ifname: "wlan1"},
		{name: "policy, but we are root", s: with(func(s *surroundings) { s.policy = "/p"; s.root = true }), engine: EngineSystem, fix: true},
		{name: "no policy, free adapter", s: with(func(s *surroundings) { s.free = []string{"wlan1", "wlan2"} }), engine: EnginePrivate, ifname: "wlan1"},
		{name: "no policy, another adapter", s: with(func(s *surroundings) { s.free = []string{"wlan1", "wlan2"} }), cfg: Config{Ifname: "wlan2"}, engine: EnginePrivate, ifname: "wlan2"},
		{name: "no policy, no rights", s: nm, engine: EngineSystem, fix: true},
		{name: "no policy, nothing free", s: with(func(*surroundings) {}), engine: EngineSystem, fix: true},
		{name: "unmanaged, supplicant has it", s: surroundings{nm: true, owns: []string{"wlan0"}}, engine: EngineSystem},
		{name: "unmanaged, user", s: surroundings{nm: true, free: []string{"wlan0"}}, engine: EnginePrivate, ifname: "wlan0"},
		{name: "unmanaged, root", s: surroundings{nm: true, root: true, free: []string{"wlan0"}}, engine: EngineSystem, ifname: "wlan0"},
		{name: "asked for system", s: with(func(s *surroundings) { s.free = []string{"wlan1"} }), cfg: Config{Engine: EngineSystem}, engine: EngineSystem},
		{name: "asked for private", s: with(func(s *surroundings) { s.policy = "/p"; s.free = []string{"wlan1"} }), cfg: Config{Engine: EnginePrivate}, engine: EnginePrivate, ifname: "wlan1"},
		{name: "asked for private, nothing free", s: with(func(*surroundings) {}), cfg: Config{Engine: EnginePrivate}, err: ErrEngine},
		{name: "asked for private, no rights", s: nm, cfg: Config{Engine: EnginePrivate}, err: ErrEngine},
		{name: "asked for nonsense", cfg: Config{Engine: "iwd"}, err: ErrConfig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := choose(tt.s, tt.cfg)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error is %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if c.Engine != tt.engine || c.Ifname != tt.ifname || (c.Fix != "") != tt.fix || c.Why == "" {
				t.Errorf("choice is %+v", c)
			}
		})
	}
}

func TestFindPolicy(t *testing.T) {
	shipped, err := os.ReadFile("../systemd/zz-nigh.dbus.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file, text string
		found            bool
	}{
		{"shipped", "zz-nigh.conf", string(shipped), true},
		{"not a name that the bus reads", "zz-nigh.conf.dpkg-new", string(shipped), false},
		{"commented out", "a.conf", `<busconfig><!-- <policy user="root"><deny receive_member="GroupStarted" receive_sender="fi.w1.wpa_supplicant1"/></policy> --></busconfig>`, false},
		{"allowed", "a.conf", `<busconfig><policy user="root"><allow receive_member="GroupStarted" receive_sender="fi.w1.wpa_supplicant1"/></policy></busconfig>`, false},
		{"of another user", "a.conf", `<busconfig><policy user="ana"><deny receive_member="GroupStarted" receive_sender="fi.w1.wpa_supplicant1"/></policy></busconfig>`, false},
		{"broken", "a.conf", `<busconfig><policy user="root"><deny receive_member="GroupStarted"`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.file)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			want := ""
			if tt.found {
				want = path
			}
			if got := findPolicy([]string{"/nonexistent", filepath.Dir(path)}); got != want {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
}

func TestDBusBroker(t *testing.T) {
	dir := t.TempDir()
	fedora, debian := filepath.Join(dir, "fedora"), filepath.Join(dir, "debian")
	if err := os.Symlink("/usr/lib/systemd/system/dbus-broker.service", fedora); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(debian, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !dbusBroker([]string{filepath.Join(dir, "none"), fedora}) || dbusBroker([]string{filepath.Join(dir, "none"), debian}) {
		t.Error("the bus is not told apart")
	}
}
