package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"nigh/agent/clean"
	"nigh/agent/sandbox"
	"nigh/wpa"
)

// ErrConfig is wrapped by every error about a configuration file, variable or
// flag; its text names the key and the place.
var ErrConfig = errors.New("configuration")

// Accept says which offers are taken without asking a person.
type Accept string

// The policies of [Settings.Accept].
const (
	AcceptAsk     Accept = "ask"     // ask, except for devices whose trust entry says auto-accept
	AcceptTrusted Accept = "trusted" // take from every trusted device
	AcceptAll     Accept = "all"     // take from anybody who can reach this device
)

// Visibility says who can tell who this device is before a connection.
type Visibility string

// The policies of [Settings.Visibility]. Whoever connects to the session's port
// learns the device's key with every one of them: TLS shows it.
const (
	VisibleEveryone Visibility = "everyone" // name, short ID and key are announced
	VisibleTrusted  Visibility = "trusted"  // announced under names that change; trusted devices recognise it
	VisibleHidden   Visibility = "hidden"   // not announced, and found by Wi-Fi Direct only while it searches or has a group
)

// Join says which devices may form a Wi-Fi Direct group with this one without a
// person's yes.
type Join string

// The policies of [Settings.Join].
const (
	JoinTrusted Join = "trusted" // every trusted device, proved by the PIN that both derive
	JoinAsk     Join = "ask"     // none
)

// Settings are what a person may choose: the keys of config.toml, overridden
// by NIGH_* variables and then by flags. Zero fields mean the default.
type Settings struct {
	Name       string     `toml:"name"`       // shown to others, at most 40 bytes
	Accept     Accept     `toml:"accept"`     // default "ask"
	Visibility Visibility `toml:"visibility"` // default "everyone"
	Join       Join       `toml:"join"`       // default "trusted"
	Inbox      string     `toml:"inbox"`      // default $XDG_DOWNLOAD_DIR/nigh
	Listen     string     `toml:"listen"`     // default ":7421"
	Direct     *bool      `toml:"direct"`     // Wi-Fi Direct on or off, default on
	Interfaces []string   `toml:"interfaces"` // use only these links, default all sensible ones
	Intent     *int       `toml:"intent"`     // GO intent 0..15, default by power and radio
	Engine     string     `toml:"engine"`     // who forms groups: "system", "private" or "networkmanager", default "auto"
}

// Config is everything [New] needs.
type Config struct {
	Settings
	Logger  *slog.Logger     // nil discards
	Sandbox *sandbox.Sandbox // that Run enters, with the whole process; nil runs without, for the reason in Loose
	Loose   string           // one sentence
	State   string           // state folder, 0700; "" = DefaultState()
	Socket  string           // control socket; "" = control.SocketPath()
	Version string           // shown in status and hello
	Mode    string           // "service", "foreground" or "embedded"
	Bus     string           // D-Bus address of wpa_supplicant, "" = the system bus
}

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 64 << 10

// LoadSettings reads a TOML file and then the NIGH_* variables of environ (as
// os.Environ gives them). A missing file is no error when path is "" and the
// default place is meant. An unknown key, a wrong type or a value out of range
// is an error wrapping [ErrConfig] that names the key and the line.
func LoadSettings(path string, environ []string) (Settings, error) {
	var s Settings
	optional := path == ""
	if optional {
		path = filepath.Join(DefaultConfigDir(), "config.toml")
	}
	f, err := os.Open(path)
	switch {
	case err == nil:
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
		if err != nil {
			return s, fmt.Errorf("%w: read %s: %w", ErrConfig, path, err)
		}
		if len(raw) > maxConfigBytes {
			return s, fmt.Errorf("%w: %s is larger than %d bytes", ErrConfig, path, maxConfigBytes)
		}
		d := toml.NewDecoder(strings.NewReader(string(raw)))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return s, configError(path, err)
		}
	case optional && errors.Is(err, fs.ErrNotExist):
	default:
		return s, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := s.environment(environ); err != nil {
		return s, err
	}
	return s, s.check()
}

// configError turns the decoder's report into one line with file, line and key.
func configError(path string, err error) error {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return fmt.Errorf("%w: %s line %d: unknown key %q", ErrConfig, path, row, strings.Join(strict.Errors[0].Key(), "."))
	}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := decode.Position()
		return fmt.Errorf("%w: %s line %d: %s", ErrConfig, path, row, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
}

// environment overrides s with the NIGH_* variables that are set.
func (s *Settings) environment(environ []string) error {
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		if v == "" {
			continue
		}
		switch k {
		case "NIGH_NAME":
			s.Name = v
		case "NIGH_ACCEPT":
			s.Accept = Accept(v)
		case "NIGH_VISIBILITY":
			s.Visibility = Visibility(v)
		case "NIGH_JOIN":
			s.Join = Join(v)
		case "NIGH_INBOX":
			s.Inbox = v
		case "NIGH_LISTEN":
			s.Listen = v
		case "NIGH_ENGINE":
			s.Engine = v
		case "NIGH_DIRECT":
			on, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("%w: NIGH_DIRECT must be true or false, not %q", ErrConfig, v)
			}
			s.Direct = &on
		}
	}
	return nil
}

// check reports the first value that is out of range.
func (s Settings) check() error {
	switch {
	case len(s.Name) > maxNameBytes:
		return fmt.Errorf("%w: name is longer than %d bytes", ErrConfig, maxNameBytes)
	case clean.Text(s.Name) != s.Name:
		return fmt.Errorf("%w: name has characters that cannot be shown", ErrConfig)
	case s.Accept != "" && !slices.Contains([]Accept{AcceptAsk, AcceptTrusted, AcceptAll}, s.Accept):
		return fmt.Errorf("%w: accept must be ask, trusted or all, not %q", ErrConfig, s.Accept)
	case !slices.Contains(engines(), s.Engine):
		return fmt.Errorf("%w: engine must be one of %s, not %q", ErrConfig, strings.Join(engines()[1:], ", "), s.Engine)
	case s.Visibility != "" && !slices.Contains([]Visibility{VisibleEveryone, VisibleTrusted, VisibleHidden}, s.Visibility):
		return fmt.Errorf("%w: visibility must be everyone, trusted or hidden, not %q", ErrConfig, s.Visibility)
	case s.Join != "" && !slices.Contains([]Join{JoinTrusted, JoinAsk}, s.Join):
		return fmt.Errorf("%w: join must be trusted or ask, not %q", ErrConfig, s.Join)
	case s.Intent != nil && (*s.Intent < 0 || *s.Intent > 15):
		return fmt.Errorf("%w: intent must be 0 to 15, not %d", ErrConfig, *s.Intent)
	}
	return nil
}

// engineAuto leaves the choice of an engine to package wpa.
const engineAuto = "auto"

// engines are the values of [Settings.Engine]; the first means the default.
func engines() []string {
	all := []string{"", engineAuto}
	for _, e := range wpa.Engines {
		all = append(all, string(e))
	}
	return all
}

// Complete fills in the defaults and makes paths absolute; [New] does it, too.
// It returns an error wrapping [ErrConfig] when a value is out of range.
func (c *Config) Complete() error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = "device"
		}
		host, _, _ = strings.Cut(host, ".")
		c.Name = host[:min(len(host), maxNameBytes)]
	}
	if c.Accept == "" {
		c.Accept = AcceptAsk
	}
	if c.Engine == "" {
		c.Engine = engineAuto
	}
	if c.Visibility == "" {
		c.Visibility = VisibleEveryone
	}
	if c.Join == "" {
		c.Join = JoinTrusted
	}
	if c.State == "" {
		c.State = DefaultState()
	}
	if c.Inbox == "" {
		c.Inbox = defaultInbox()
	}
	for _, p := range []*string{&c.State, &c.Inbox} {
		abs, err := filepath.Abs(expandHome(*p))
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConfig, *p, err)
		}
		*p = abs
	}
	return nil
}

// DefaultConfigDir is $XDG_CONFIG_HOME/nigh, by default ~/.config/nigh.
func DefaultConfigDir() string { return xdg("XDG_CONFIG_HOME", ".config") }

// DefaultState is $NIGH_STATE, else $XDG_STATE_HOME/nigh, by default
// ~/.local/state/nigh.
func DefaultState() string {
	if dir := os.Getenv("NIGH_STATE"); dir != "" {
		return dir
	}
	return xdg("XDG_STATE_HOME", ".local/state")
}

// defaultInbox is $XDG_DOWNLOAD_DIR/nigh, by default ~/Downloads/nigh.
func defaultInbox() string { return xdg("XDG_DOWNLOAD_DIR", "Downloads") }

func xdg(variable, fallback string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "nigh")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		// A service without HOME still has a working folder of its own.
		home = "/var/lib"
	}
	return filepath.Join(home, fallback, "nigh")
}

func expandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}
