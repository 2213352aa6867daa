package agent

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/agent/identity"
)

func TestDefaultName(t *testing.T) {
	id := someID(3)
	tail := "-" + strings.ToLower(id.Short()[:4])
	for host, want := range map[string]string{
		"pi5-kitchen": "pi5-kitchen", "ada.example.net": "ada", "raspberrypi": "raspberrypi" + tail, "Debian": "Debian" + tail,
		"localhost": "device" + tail, "localhost.localdomain": "device" + tail, "": "device" + tail, "(none)": "device" + tail,
		"a\x1b[2Jb c": "a[2Jbc", "--": "device" + tail,
	} {
		if got := defaultName(host, id); got != want {
			t.Errorf("a device on the host %q is called %q, want %q", host, got, want)
		}
	}
	if got := defaultName("raspberrypi", identity.DeviceID{}); got != "raspberrypi" {
		t.Errorf("without an ID it is called %q", got)
	}
	if got := defaultName(strings.Repeat("x", 64), id); len(got) > maxNameBytes {
		t.Errorf("the name %q is longer than %d bytes", got, maxNameBytes)
	}
}

// What is chosen counts at once and after a restart, and is under all that is written elsewhere.
func TestChosenSettings(t *testing.T) {
	cfg := localConfig(t)
	cfg.Name = ""
	cfg.PolicyFile = policyFile(t, "")
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	if want := defaultName(host, a.id.ID); a.now().Name != want {
		t.Errorf("at the first start it is called %q, want %q", a.now().Name, want)
	}
	b := backend{a}
	if s := a.status(); !s.FirstRun || s.NameFixed != "" {
		t.Errorf("at the first start: first run %v, fixed %q", s.FirstRun, s.NameFixed)
	}
	inbox := filepath.Join(t.TempDir(), "got", "files")
	c, err := b.ChangeConfiguration(t.Context(), control.SettingsRequest{Set: map[string]string{"name": " Küche ", "inbox": inbox}, Asked: true})
	if err != nil {
		t.Fatal(err)
	}
	if s := setting(t, c.Settings, "name"); s.Value != "Küche" || s.Origin != fromChoice || a.status().Name != "Küche" || a.status().FirstRun {
		t.Errorf("after the choice: %+v, status %+v", s, a.status())
	}
	if info, err := os.Stat(inbox); err != nil || !info.IsDir() || a.now().Inbox != inbox {
		t.Errorf("the chosen inbox: %v, in use %q", err, a.now().Inbox)
	}
	for name, tt := range map[string]struct {
		set  map[string]string
		says string
	}{
		"long name":      {map[string]string{"name": strings.Repeat("x", 41)}, "longer than 40"},
		"unseen name":    {map[string]string{"name": "a\x1bb"}, "cannot be shown"},
		"relative inbox": {map[string]string{"inbox": "there"}, "absolute"},
		"no folder":      {map[string]string{"inbox": "/proc/nigh"}, "inbox"},
		"unknown key":    {map[string]string{"colour": "red"}, "no setting"},
		"bad value":      {map[string]string{"transfers": "many"}, "must be a number"},
		"bad policy":     {map[string]string{"accept": "perhaps"}, "accept must be"},
	} {
		_, err := b.ChangeConfiguration(t.Context(), control.SettingsRequest{Set: tt.set})
		e, ok := errors.AsType[*control.Error](err)
		if !ok || e.Hint == "" || !strings.Contains(e.Message, tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if a.now().Name != "Küche" || a.now().Inbox != inbox {
			t.Errorf("%s changed the settings: %q, %q", name, a.now().Name, a.now().Inbox)
		}
	}
	a.close()

	raw, err := os.ReadFile(filepath.Join(cfg.State, chosenFile))
	if want := `{"settings":{"inbox":"` + inbox + `","name":"Küche"},"asked":true}` + "\n"; err != nil || string(raw) != want {
		t.Errorf("the file has %q, %v; want %q", raw, err, want)
	}
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("# mine\nname = \"ada\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	given := cfg.Settings
	given.Inbox = ""
	for _, tt := range []struct{ config, env, policy, name, fixed string }{
		{name: "Küche"},
		{config: file, name: "ada"},
		{config: file, env: "NIGH_NAME=eve", name: "eve"},
		{policy: "name = \"kiosk-3\"\n", name: "kiosk-3", fixed: cfg.PolicyFile + ":1"},
	} {
		writePolicy(t, cfg.PolicyFile, tt.policy)
		next := cfg
		if next.Settings, err = LoadSettings(cmp.Or(tt.config, os.DevNull), []string{tt.env}); err != nil {
			t.Fatal(err)
		}
		next.Listen, next.Direct, next.Interfaces = given.Listen, given.Direct, given.Interfaces
		func() {
			a, err := New(next)
			if err != nil {
				t.Fatal(err)
			}
			defer a.close()
			if s := a.status(); s.Name != tt.name || s.FirstRun || s.NameFixed != tt.fixed || s.Agent.Inbox != inbox {
				t.Errorf("with %+v: name %q, first run %v, fixed %q, inbox %q", tt, s.Name, s.FirstRun, s.NameFixed, s.Agent.Inbox)
			}
			_, err = backend{a}.ChangeConfiguration(t.Context(), control.SettingsRequest{Set: map[string]string{"name": "other"}})
			if fixed := tt.config != "" || tt.fixed != ""; (err != nil) != fixed {
				t.Errorf("with %+v, to choose another name: %v", tt, err)
			}
			if err == nil {
				_, err = backend{a}.ChangeConfiguration(t.Context(), control.SettingsRequest{Set: map[string]string{"name": "Küche"}})
			}
			if err != nil && tt.config == "" && tt.fixed == "" {
				t.Error(err)
			}
		}()
	}

	// Without an agent, and what cannot be read.
	writePolicy(t, cfg.PolicyFile, "")
	if err := Choose(Config{State: cfg.State, PolicyFile: cfg.PolicyFile}, control.SettingsRequest{Set: map[string]string{"name": ""}}); err != nil {
		t.Fatal(err)
	}
	if c, err := readChosen(cfg.State); err != nil || c.Settings["name"] != "" || c.Settings["inbox"] != inbox || !c.Asked {
		t.Errorf("after the name was taken back: %+v, %v", c, err)
	}
	if err := os.WriteFile(filepath.Join(cfg.State, chosenFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); !errors.Is(err, ErrConfig) || !strings.Contains(explain(err).Message, chosenFile) {
		t.Errorf("a file that is cut off: %v", err)
	}
}
