package agent

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/policy"
	"nigh/agent/receive"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// rules are what counts: the user's settings under the admin's policy. They are never
// changed, only replaced.
type rules struct {
	Settings
	policy policy.Policy
	shown  []control.Setting // each value and where it is from
}

// newRules puts the policy over the settings, which are complete. Of each bound the
// stricter one counts.
func newRules(s Settings, p policy.Policy) *rules {
	r := &rules{Settings: s, policy: p}
	off := false
	show := func(key, value string, byPolicy bool) {
		from := cmp.Or(s.origin[key], "default")
		if byPolicy {
			from = p.File + ":" + strconv.Itoa(p.Lines[key])
		}
		r.shown = append(r.shown, control.Setting{Key: key, Value: clean.Text(value), Origin: clean.Text(from), Policy: byPolicy})
	}
	toggle := func(key string, own **bool, says *bool) {
		barred := policy.Off(says)
		if barred {
			*own = &off
		}
		show(key, strconv.FormatBool(!policy.Off(*own)), barred)
	}
	bound := func(key string, own *policy.Size, most policy.Size) {
		stricter := most > 0 && (*own == 0 || most < *own)
		if stricter {
			*own = most
		}
		show(key, sizeText(*own), stricter)
	}
	number := func(key string, own *int, most, standard int) {
		stricter := most > 0 && most < cmp.Or(*own, standard)
		if stricter {
			*own = most
		}
		value := "none"
		if n := cmp.Or(*own, standard); n > 0 {
			value = strconv.Itoa(n)
		}
		show(key, value, stricter)
	}
	if p.Name != "" {
		r.Name = p.Name
	}
	show("name", r.Name, p.Name != "")
	asks := policy.Off(p.AutoAccept) && s.Accept != AcceptAsk
	if asks {
		r.Accept = AcceptAsk
	}
	if asks {
		r.shown = append(r.shown, control.Setting{Key: "accept", Value: string(r.Accept), Origin: clean.Text(p.File + ":" + strconv.Itoa(p.Lines["auto_accept"])), Policy: true})
	} else {
		show("accept", string(r.Accept), false)
	}
	hidden := p.Visibility != "" && slices.Index(policy.Visibilities, p.Visibility) > slices.Index(policy.Visibilities, string(s.Visibility))
	if hidden {
		r.Visibility = Visibility(p.Visibility)
	}
	show("visibility", string(r.Visibility), hidden)
	show("join", string(s.Join), false)
	show("inbox", s.Inbox, false)
	show("listen", cmp.Or(s.Listen, ":7421"), false)
	toggle("direct", &r.Direct, p.Direct)
	show("interfaces", cmp.Or(strings.Join(s.Interfaces, ", "), "all sensible ones"), false)
	intent := "by power and radio"
	if s.Intent != nil {
		intent = strconv.Itoa(*s.Intent)
	}
	show("intent", intent, false)
	show("engine", s.Engine, false)
	show("mouse", strconv.FormatBool(s.Mouse != nil && *s.Mouse), false)
	toggle("receive", &r.Receive, p.Receive)
	bound("max_size", &r.MaxSize, p.MaxSize)
	bound("rate_up", &r.RateUp, p.RateUp)
	bound("rate_down", &r.RateDown, p.RateDown)
	bound("device_rate_up", &r.DeviceRateUp, p.DeviceRateUp)
	bound("device_rate_down", &r.DeviceRateDown, p.DeviceRateDown)
	keeps := "1GiB, or a twentieth of the disk"
	if s.MinFree > 0 {
		keeps = sizeText(s.MinFree)
	}
	show("min_free", keeps, false)
	number("transfers", &r.Transfers, p.Transfers, transfer.MaxRunning)
	number("sources", &r.Sources, 0, transfer.DefaultSources)
	number("peers.max", &r.Peers.Max, p.Peers.Max, 0)
	// What only an admin says.
	var own *bool
	toggle("pairing", &own, p.Pairing)
	own = nil
	toggle("auto_accept", &own, p.AutoAccept)
	devices := "all"
	if p.Devices != nil {
		var ids []string
		for _, id := range *p.Devices {
			ids = append(ids, id.Short())
		}
		devices = cmp.Or(strings.Join(ids, ", "), "none")
	}
	show("devices", devices, p.Devices != nil)
	shares := "any folder"
	if p.Shares != nil {
		shares = cmp.Or(strings.Join(*p.Shares, ", "), "none")
	}
	show("shares", shares, p.Shares != nil)
	toggle("notifications", &r.Notifications, nil)
	own = nil
	toggle("user_hooks", &own, p.UserHooks)
	for i, all := range r.hooks() {
		key := "hooks.on_" + policy.HookEvents[i]
		var shown []string
		for _, c := range all {
			shown = append(shown, strings.Join(c, " "))
		}
		show(key, cmp.Or(strings.Join(shown, "; "), "none"), len(p.Hooks.Commands()[i]) > 0)
	}
	return r
}

func (a *Agent) directOn() bool { return !policy.Off(a.now().Direct) }

// sizeText is a bound as [control.ParseSize] reads it.
func sizeText(n policy.Size) string {
	if n == 0 {
		return "none"
	}
	for _, u := range []struct {
		name string
		size policy.Size
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(n), 10)
}

// receives reports whether anything is received at all.
func (r *rules) receives() bool { return !policy.Off(r.Receive) }

// autoAccept reports whether an offer of this device is taken without asking, as far as
// the user and the policy say.
func (r *rules) autoAccept(peer trust.Record) bool {
	switch {
	case policy.Off(r.policy.AutoAccept):
		return false
	case r.Accept == AcceptAll:
		return true
	default:
		return peer.Standing == trust.Trusted && (r.Accept == AcceptTrusted || peer.AutoAccept)
	}
}

// mayShare reports whether the folder, an absolute path without links, may be shared.
func (r *rules) mayShare(folder string) bool {
	if r.policy.Shares == nil {
		return true
	}
	return slices.ContainsFunc(*r.policy.Shares, func(allowed string) bool {
		// The admin's path may lead over links: what it leads to is meant.
		if real, err := filepath.EvalSymlinks(allowed); err == nil {
			allowed = real
		}
		rest, ok := strings.CutPrefix(folder, filepath.Clean(allowed))
		return ok && (rest == "" || rest[0] == filepath.Separator || filepath.Clean(allowed) == "/")
	})
}

// trust are the rules of the trust book.
func (r *rules) trust() trust.Rules {
	t := trust.Rules{Closed: policy.Off(r.policy.Pairing)}
	if r.policy.Devices != nil {
		t.Devices = map[identity.DeviceID]bool{}
		for _, id := range *r.policy.Devices {
			t.Devices[id] = true
		}
	}
	return t
}

// rates are the most bytes per second to and from a device, 0 for no bound: the
// stricter ones of the settings, the policy and its own permissions.
func (r *rules) rates(peer trust.Record) (up, down int64) {
	return tighter(int64(r.DeviceRateUp), peer.RateUp), tighter(int64(r.DeviceRateDown), peer.RateDown)
}

// transferLimits are what all transfers together keep to.
func (a *Agent) transferLimits() transfer.Limits {
	r := a.now()
	return transfer.Limits{Rates: transfer.Rates{Up: int64(r.RateUp), Down: int64(r.RateDown)}, AtOnce: r.Transfers, Sources: r.Sources, MinFree: int64(r.MinFree)}
}

// minFree is what stays free on a disk of that size.
func (s *Settings) minFree(total int64) int64 {
	return cmp.Or(int64(s.MinFree), receive.Reserve(total))
}

// transferRates are what those with one device keep to.
func (a *Agent) transferRates(id identity.DeviceID) transfer.Rates {
	up, down := a.now().rates(a.record(id))
	return transfer.Rates{Up: up, Down: down}
}

// tighter is the stricter of two bounds of which 0 is none.
func tighter(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// ruling is the agent's rules and the way to replace them.
type ruling struct {
	now     atomic.Pointer[rules]
	loading sync.Mutex // one reload at a time
	mu      sync.Mutex
	failed  string   // why the last reload changed nothing, "" when it did; guarded by mu
	later   []string // settings that count from the next start on; guarded by mu
	changed signal

	choosing sync.Mutex // one change of what was chosen at a time; held over a reload
}

// now returns the rules that count.
func (a *Agent) now() *rules {
	if r := a.ruling.now.Load(); r != nil {
		return r
	}
	return &rules{Settings: a.cfg.Settings} // an agent that New did not make has no policy
}

// loadRules reads the policy and puts it over the settings of cfg, which are complete.
func loadRules(cfg Config) (*rules, error) {
	p, err := policy.Load(cmp.Or(cfg.PolicyFile, policy.Path), cfg.policyOwner())
	if err != nil {
		return nil, err
	}
	return newRules(cfg.Settings, p), nil
}

// completeRules fills in the defaults of cfg and what was chosen, puts the policy over them, and leaves what counts in cfg.
func completeRules(cfg *Config) (*rules, error) {
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	now, err := loadRules(*cfg)
	if err == nil {
		cfg.Settings = now.Settings
	}
	return now, err
}

// nameByID gives this device, when it has a new key, the name that has the ID in it where nobody chose one.
func (a *Agent) nameByID() {
	cfg := a.cfg
	if !a.id.Created {
		return
	}
	cfg.Settings = a.given
	if now, err := completeRules(&cfg); err == nil { // as it was a moment ago
		a.cfg = cfg
		a.ruling.now.Store(now)
	}
}

// policyOwner is who must own the policy: root, or whoever runs a test that has one of
// its own.
func (c *Config) policyOwner() int {
	if c.PolicyFile != "" {
		return os.Geteuid()
	}
	return 0
}

// EffectiveSettings returns what an agent with this configuration would go by, and
// where each value is from. The error wraps [ErrConfig] or [policy.ErrPolicy].
func EffectiveSettings(cfg Config) ([]control.Setting, error) {
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	r, err := loadRules(cfg)
	if err != nil {
		return nil, err
	}
	return r.shown, nil
}

// fixed are the settings that an agent takes when it starts only.
var fixed = []string{"listen", "interfaces", "engine"}

// reload reads configuration and policy again and goes by them from now on, without
// ending a session. When they cannot be read, nothing changes: what was strict stays so.
// It returns the settings that differ and count from the next start on only.
func (a *Agent) reload() (later []string, err error) {
	a.ruling.loading.Lock()
	defer a.ruling.loading.Unlock()
	defer func() {
		a.ruling.mu.Lock()
		a.ruling.failed, a.ruling.later = "", later
		if err != nil {
			a.ruling.failed = explain(err).Message
		}
		a.ruling.mu.Unlock()
		a.publishStatus()
	}()
	cfg := a.cfg
	cfg.Settings = a.given
	if cfg.Reload != nil {
		if cfg.Settings, err = cfg.Reload(); err != nil {
			a.log.Error("Configuration not read, nothing changed", "err", err)
			return nil, err
		}
	}
	if err = cfg.Complete(); err != nil {
		a.log.Error("Configuration not taken, nothing changed", "err", err)
		return nil, err
	}
	next, err := loadRules(cfg)
	if err != nil {
		a.log.Error("Policy not taken, the one before stays in force", "err", err)
		return nil, err
	}
	before := a.now()
	if next.Inbox != before.Inbox {
		if err = a.openInbox(next.Inbox); err != nil {
			a.log.Error("Inbox not taken, nothing changed", "err", err)
			return nil, err
		}
	}
	if next.Hooks.String() != before.Hooks.String() || next.policy.Hooks.String() != before.policy.Hooks.String() {
		later = append(later, "hooks")
		s, p := cfg.Settings, next.policy
		s.Hooks, p.Hooks = before.Hooks, before.policy.Hooks
		next = newRules(s, p)
	}
	values := map[string]string{}
	for _, s := range before.shown {
		values[s.Key] = s.Value
	}
	for i, s := range next.shown {
		if slices.Contains(fixed, s.Key) && values[s.Key] != s.Value {
			later = append(later, s.Key)
			next.shown[i] = before.shown[slices.IndexFunc(before.shown, func(b control.Setting) bool { return b.Key == s.Key })]
		}
	}
	// What is fixed stays as the agent began with it.
	was := before.Settings
	next.Listen, next.Interfaces, next.Engine = was.Listen, was.Interfaces, was.Engine
	a.ruling.now.Store(next)
	a.log.Info("Configuration and policy read", "policy", next.policy.File, "later", strings.Join(later, ","))
	a.enforce()
	if next.Name != was.Name || next.Visibility != was.Visibility {
		a.air.Open(next.Visibility == VisibleEveryone)
		a.announce()
		a.direct.tell()
	}
	if next.Visibility != was.Visibility && next.Visibility == VisibleHidden {
		a.background(a.leaveStrangers)
	}
	return later, nil
}

// nameFixed says who decides what this device is called, when its user cannot; else "".
func (r *rules) nameFixed() string {
	if r.policy.Name == "" {
		return ""
	}
	return r.policy.File + ":" + strconv.Itoa(r.policy.Lines["name"])
}

// firstRun reports whether nobody was asked yet what this device is called, and nothing but the policy says it.
func (r *rules) firstRun() bool { return !r.asked && r.origin["name"] == "" }

// Reload reads configuration and policy again, as `nigh config reload` does. It does not
// wait for what the new ones end. The error wraps [ErrConfig] or [policy.ErrPolicy];
// then nothing changed, and status and log say so.
func (a *Agent) Reload() error {
	_, err := a.reload()
	return err
}

// enforce ends what the rules of now do not let go on.
func (a *Agent) enforce() {
	r := a.now()
	a.trust.Rule(r.trust()) // devices are followed from there
	a.deny()
	a.sessions.Thin()
	a.transfers.LimitsChanged()
	a.ruling.changed.changed()
}

// notices says what a person should know of the rules.
func (r *ruling) notices() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.failed != "":
		return []string{"What was set anew does not count: " + r.failed + "."}
	case len(r.later) > 0:
		return []string{"What was set anew counts when nigh starts again: " + strings.Join(r.later, ", ") + "."}
	default:
		return nil
	}
}

// originOf notes where a setting is from.
func (s *Settings) originOf(key, origin string) {
	s.origin = maps.Clone(s.origin)
	if s.origin == nil {
		s.origin = map[string]string{}
	}
	s.origin[key] = origin
}
