package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/private"
)

// Path is where the policy of a machine is.
const Path = "/etc/nigh/policy.toml"

// Bounds of the file.
const (
	maxBytes   = 1 << 20
	maxDevices = 4096
	maxShares  = 256
	maxName    = 40 // bytes, as everybody's
)

// ErrPolicy is wrapped by every error about the policy file; its text names the file,
// and the line and key of a mistake.
var ErrPolicy = errors.New("policy")

// Size is a number of bytes, or of bytes per second.
type Size int64

// UnmarshalText reads what [control.ParseSize] takes.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := control.ParseSize(string(text))
	*s = Size(n)
	return err
}

// Visibilities are the values of Visibility, the most open first.
var Visibilities = []string{"everyone", "trusted", "hidden"}

// Policy is what the admin says. Zero fields restrict nothing.
type Policy struct {
	Name       string               `toml:"name"`        // what the device is called; its user cannot choose
	Receive    *bool                `toml:"receive"`     // false: nothing is received
	Direct     *bool                `toml:"direct"`      // false: no Wi-Fi Direct
	Pairing    *bool                `toml:"pairing"`     // false: no device becomes trusted that is not yet
	AutoAccept *bool                `toml:"auto_accept"` // false: every offer asks
	Visibility string               `toml:"visibility"`  // the most open that may be, of Visibilities
	Devices    *[]identity.DeviceID `toml:"devices"`     // the only ones there is anything with
	Shares     *[]string            `toml:"shares"`      // folders: only they and what is in them may be shared
	MaxSize    Size                 `toml:"max_size"`    // most bytes of an offer that is taken
	// Most bytes per second, of all transfers together and of those with one device.
	RateUp         Size  `toml:"rate_up"`
	RateDown       Size  `toml:"rate_down"`
	DeviceRateUp   Size  `toml:"device_rate_up"`
	DeviceRateDown Size  `toml:"device_rate_down"`
	Transfers      int   `toml:"transfers"` // most received at once
	Peers          Peers `toml:"peers"`
	UserHooks      *bool `toml:"user_hooks"` // false: commands of the user's are not run
	Hooks          Hooks `toml:"hooks"`      // the admin's own, run as the user

	// Lines has the line of each key that the file sets; nil without a file. File is the
	// path of it.
	Lines map[string]int `toml:"-"`
	File  string         `toml:"-"`
}

// Peers bounds devices.
type Peers struct {
	Max int `toml:"max"` // most connected at once
}

// Off reports whether the policy says no to what a switch is for.
func Off(b *bool) bool { return b != nil && !*b }

// Load reads the policy in the file at path, owned by the user with the ID owner: 0 but
// in tests. A file that does not exist is no policy. Every other error wraps [ErrPolicy].
func Load(path string, owner int) (Policy, error) {
	raw, err := private.ReadGuarded(path, maxBytes, "root", owner)
	if errors.Is(err, fs.ErrNotExist) {
		return Policy{}, nil
	}
	if err != nil {
		return Policy{}, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	p, err := parse(raw)
	if err != nil {
		return Policy{}, fmt.Errorf("%w: %s %w", ErrPolicy, path, err)
	}
	p.File = path
	return p, nil
}

// parse reads the text of a policy; errors begin with the line.
func parse(raw []byte) (Policy, error) {
	var p Policy
	d := toml.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Policy{}, Mistake(err)
	}
	p.Lines = Lines(raw)
	key, what := p.check()
	if what != "" {
		return Policy{}, fmt.Errorf("line %d: %s %s", p.Lines[key], key, what)
	}
	return p, nil
}

// check returns the first key whose value cannot be, and what is wrong with it.
func (p *Policy) check() (key, what string) {
	if p.Name != strings.TrimSpace(p.Name) || len(p.Name) > maxName || strings.ContainsFunc(p.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "name", fmt.Sprintf("must be at most %d bytes of text that can be shown", maxName)
	}
	if p.Visibility != "" && !slices.Contains(Visibilities, p.Visibility) {
		return "visibility", "must be everyone, trusted or hidden"
	}
	if p.Devices != nil && len(*p.Devices) > maxDevices {
		return "devices", fmt.Sprintf("has more than %d", maxDevices)
	}
	if p.Shares != nil && len(*p.Shares) > maxShares {
		return "shares", fmt.Sprintf("has more than %d folders", maxShares)
	}
	if p.Shares != nil {
		for _, s := range *p.Shares {
			if !filepath.IsAbs(s) {
				return "shares", fmt.Sprintf("has %q, which is not an absolute path", s)
			}
		}
	}
	if key, what := p.Hooks.Check(); what != "" {
		return key, what
	}
	// A zero would read as "nothing" and mean "no bound".
	for key, n := range map[string]int64{
		"max_size": int64(p.MaxSize), "rate_up": int64(p.RateUp), "rate_down": int64(p.RateDown), "device_rate_up": int64(p.DeviceRateUp),
		"device_rate_down": int64(p.DeviceRateDown), "transfers": int64(p.Transfers), "peers.max": int64(p.Peers.Max),
	} {
		if _, set := p.Lines[key]; set && n <= 0 {
			return key, "must be more than zero"
		}
	}
	return "", ""
}

// Mistake turns the decoder's report about a file into one line that begins with the
// line and names the key.
func Mistake(err error) error {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return fmt.Errorf("line %d: unknown key %q", row, strings.Join(strict.Errors[0].Key(), "."))
	}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := decode.Position()
		return fmt.Errorf("line %d: %s", row, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return err
}

// Lines returns the line of every key that a TOML document sets, as "table.key"; of
// one that does not parse, those before the mistake.
func Lines(raw []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(raw)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		var words []string
		line := 0
		for it := e.Key(); it.Next(); {
			if node := it.Node(); line == 0 {
				line = p.Shape(node.Raw).Start.Line
			}
			words = append(words, string(it.Node().Data))
		}
		key := strings.Join(words, ".")
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = key + "."
		case unstable.KeyValue:
			lines[table+key] = line
		}
	}
	return lines
}
