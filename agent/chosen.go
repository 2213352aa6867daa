package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/private"
	"nigh/agent/sandbox"
)

// chosenFile, in the state folder, has the settings that a person chose with `nigh config set` or at the first run. They count
// less than what stands in config.toml, which is the person's own text and never written by the program.
const chosenFile = "chosen.json"

// fromChoice is where such a setting is said to be from.
const fromChoice = "nigh config set"

// maxChosenBytes bounds the file.
const maxChosenBytes = 64 << 10

// chosen is the content of the file.
type chosen struct {
	Settings map[string]string `json:"settings,omitempty"` // by key, as a person writes the value
	Asked    bool              `json:"asked,omitempty"`    // the questions of the first run were answered or put off
}

// readChosen reads the file in a state folder. One that is not there is empty. The error wraps [ErrConfig].
func readChosen(state string) (chosen, error) {
	var c chosen
	path := filepath.Join(state, chosenFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxChosenBytes))
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return c, fmt.Errorf("%w: %s: %w; remove it and choose again", ErrConfig, path, err)
	}
	return c, nil
}

// write replaces the file: after a power cut it is the old one or the new one, whole.
func (c chosen) write(state string) error {
	if err := private.Dir(state); err != nil {
		return err
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(state, chosenFile+".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(state, chosenFile))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // at worst a small file too many in the state folder
		return err
	}
	return private.SyncDir(state)
}

// pick puts what was chosen under s: whatever is set elsewhere stays. A key that this version does not know is passed over.
// The error wraps [ErrConfig].
func (s *Settings) pick(c chosen) error {
	s.asked = c.Asked
	for key, value := range c.Settings {
		if from := s.origin[key]; from != "" && from != fromChoice {
			continue
		}
		known, err := s.put(key, value)
		if err != nil {
			return fmt.Errorf("%w: %s, by %s, %w", ErrConfig, key, fromChoice, err)
		}
		if known {
			s.originOf(key, fromChoice)
		}
	}
	return nil
}

// Choose writes settings that a person chose into the state folder of cfg, whose Settings are as they were given; an agent that
// starts then goes by them. It is for when no agent runs. The errors are for people.
func Choose(cfg Config, r control.SettingsRequest) error {
	_, err := cfg.choose(r)
	return failed(err)
}

// choose checks and writes what was chosen, and returns what was there before.
func (c Config) choose(r control.SettingsRequest) (before chosen, err error) {
	if c.State == "" {
		c.State = DefaultState()
	}
	if before, err = readChosen(c.State); err != nil {
		return before, err
	}
	next := chosen{Settings: maps.Clone(before.Settings), Asked: before.Asked || r.Asked}
	if next.Settings == nil {
		next.Settings = map[string]string{}
	}
	keys := make([]string, 0, len(r.Set))
	for key := range r.Set {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		value := strings.TrimSpace(r.Set[key])
		var probe Settings
		if known, err := probe.put(key, value); !known {
			return before, &control.Error{Code: control.CodeUsage, Message: clean.Text(key) + " is no setting that a command can change", Hint: "nigh config show lists the keys; config.toml may set them all"}
		} else if err != nil && value != "" {
			return before, fmt.Errorf("%w: %s %w", ErrConfig, key, err)
		}
		if from := c.origin[key]; from != "" {
			return before, &control.Error{Code: control.CodeUsage, Message: key + " is set elsewhere: " + clean.Text(from), Hint: "change it there, or take it out there first"}
		}
		if key == "inbox" && value != "" && !filepath.IsAbs(expandHome(value)) {
			return before, &control.Error{Code: control.CodeUsage, Message: "the folder must be an absolute path", Hint: "give a path that begins with / or ~/"}
		}
		if value == "" {
			delete(next.Settings, key)
		} else {
			next.Settings[key] = value
		}
	}
	tried := c.Settings
	if err := tried.pick(next); err != nil {
		return before, err
	}
	if err := tried.check(); err != nil {
		return before, err
	}
	if now, err := loadRules(c); err != nil {
		return before, err
	} else if _, named := r.Set["name"]; named && now.policy.Name != "" {
		return before, &control.Error{Code: control.CodePermission, Message: "the policy of this machine says what this device is called: " + clean.Text(now.policy.Name), Hint: "nigh config show --origin says where; ask the admin"}
	}
	if err := next.write(c.State); err != nil {
		return before, &control.Error{Code: control.CodeFailed, Message: "what was chosen cannot be kept: " + clean.Text(last(err)), Hint: "check that the state folder is yours, and the disk: nigh doctor"}
	}
	return before, nil
}

// ChangeConfiguration implements [control.Backend].
func (b backend) ChangeConfiguration(ctx context.Context, r control.SettingsRequest) (control.Configuration, error) {
	a := b.a
	a.ruling.choosing.Lock()
	defer a.ruling.choosing.Unlock()
	cfg := a.cfg
	cfg.Settings = a.given
	if cfg.Reload != nil {
		var err error
		if cfg.Settings, err = cfg.Reload(); err != nil {
			return control.Configuration{}, explain(err)
		}
	}
	before, err := cfg.choose(r)
	if err != nil {
		return control.Configuration{}, explain(err)
	}
	later, err := a.reload()
	if err != nil {
		// What cannot be is not kept: the next start would fail as well.
		if undone := before.write(cfg.State); undone != nil {
			a.log.Error("What was chosen was not taken back", "err", undone)
		}
		_, _ = a.reload() // it says itself what is wrong
		return control.Configuration{}, explain(err)
	}
	c, err := b.Configuration(ctx)
	c.Later = later
	return c, err
}

// openInbox makes the folder that received files go to, and lets the agent write in it.
func (a *Agent) openInbox(path string) error {
	a.grant(path, true)
	if err := sandbox.MkdirAll(path, 0o755); err != nil {
		return &control.Error{Code: control.CodeUsage, Message: "the inbox " + clean.Text(path) + " cannot be made: " + clean.Text(last(err)), Hint: "name a folder that you may write in; the service sees your home only"}
	}
	return nil
}

// everyones are names that hosts have out of the box, so that on a network there may be several of them.
var everyones = []string{
	"alarm", "alpine", "android", "archlinux", "armbian", "arch", "bananapi", "beaglebone", "buildroot", "centos", "computer", "debian",
	"desktop", "device", "dietpi", "fedora", "gentoo", "home", "host", "kali", "laptop", "linux", "localhost", "manjaro", "mint", "nixos",
	"odroid", "opensuse", "openwrt", "orangepi", "pc", "pi", "radxa", "raspberry", "raspberrypi", "rock", "rocky", "rpi", "server", "ubuntu", "unknown",
	"user", "void",
}

// defaultName is what a device is called that nobody gave a name: its host's, and when that says nothing, the beginning of its
// ID with it. id is zero while there is none.
func defaultName(host string, id identity.DeviceID) string {
	host, _, _ = strings.Cut(host, ".")
	host = strings.Trim(strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f && !strings.ContainsRune(`"'\/()<>&`, r) {
			return r
		}
		return -1
	}, host), "-_")
	host = host[:min(len(host), maxNameBytes-len("-xxxx"))]
	plain := strings.ToLower(host)
	if plain == "" || plain == "localhost" || plain == "none" || plain == "unknown" {
		host, plain = "device", "device"
	}
	if id.IsZero() || !slices.Contains(everyones, plain) {
		return host
	}
	return host + "-" + strings.ToLower(id.Short()[:4])
}
