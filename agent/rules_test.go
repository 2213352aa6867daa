package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/policy"
	"nigh/agent/session"
	"nigh/agent/trust"
)

// policyFile writes a policy for a test's agent and returns its path.
func policyFile(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "nigh")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "policy.toml")
	writePolicy(t, path, text)
	return path
}

func writePolicy(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func setting(t *testing.T, list []control.Setting, key string) control.Setting {
	t.Helper()
	i := slices.IndexFunc(list, func(s control.Setting) bool { return s.Key == key })
	if i < 0 {
		t.Fatalf("no setting %s in %+v", key, list)
	}
	return list[i]
}

// The stricter one of each pair counts, and every value says where it is from.
func TestThePolicyIsOverTheSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	text := "accept = \"all\"\nvisibility = \"everyone\"\nreceive = true\nmax_size = \"1MB\"\nrate_up = \"9MB\"\n\n[peers]\nmax = 3\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := LoadSettings(file, []string{"NIGH_TRANSFERS=9", "NIGH_RATE_DOWN=2MB/s", "NIGH_DEVICE_RATE_UP=none", "NIGH_PEERS_MAX=4", "NIGH_SOURCES=7", "NIGH_MOUSE=1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Flag("listen", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	path := policyFile(t, "receive = false\nauto_accept = false\nvisibility = \"trusted\"\nmax_size = \"2MB\"\nrate_up = \"5MB/s\"\n"+
		"rate_down = \"5MB/s\"\ndevice_rate_up = \"1MB/s\"\ntransfers = 2\ndirect = false\nshares = []\npeers.max = 5\n")
	list, err := EffectiveSettings(Config{Settings: s, PolicyFile: path, State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][2]string{
		"accept": {"ask", path + ":2"}, "visibility": {"trusted", path + ":3"}, "receive": {"false", path + ":1"}, "direct": {"false", path + ":9"},
		"max_size": {"1MB", file + ":4"}, "rate_up": {"5MB", path + ":5"}, "rate_down": {"2MB", "environment NIGH_RATE_DOWN"},
		"device_rate_up": {"1MB", path + ":7"}, "device_rate_down": {"none", "default"}, "transfers": {"2", path + ":8"},
		"peers.max": {"4", "environment NIGH_PEERS_MAX"}, "sources": {"7", "environment NIGH_SOURCES"}, "listen": {"127.0.0.1:0", "flag"}, "mouse": {"true", "environment NIGH_MOUSE"}, "join": {"trusted", "default"},
		"auto_accept": {"false", path + ":2"}, "shares": {"none", path + ":10"}, "devices": {"all", "default"}, "pairing": {"true", "default"},
	} {
		got := setting(t, list, key)
		if got.Value != want[0] || got.Origin != want[1] || got.Policy != strings.HasPrefix(want[1], path) {
			t.Errorf("%s is %+v, want %q", key, got, want)
		}
	}
}

// Without a policy the settings count, and a bad one is never ignored.
func TestABadPolicyIsNotIgnored(t *testing.T) {
	cfg := localConfig(t)
	cfg.PolicyFile = policyFile(t, "receive = flase\n")
	if _, err := New(cfg); !errors.Is(err, policy.ErrPolicy) {
		t.Fatalf("an agent began with a policy that cannot be read: %v", err)
	} else if e := explain(err); !strings.Contains(e.Message, "policy.toml line 1") || e.Hint == "" || e.Code != control.CodeUsage {
		t.Errorf("it says %+v", e)
	}
	if err := os.Chmod(cfg.PolicyFile, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); !errors.Is(err, policy.ErrPolicy) || !strings.Contains(explain(err).Message, "written by others") {
		t.Errorf("an agent began with a policy that anybody may write: %v", err)
	}
}

func TestReload(t *testing.T) {
	cfg := localConfig(t)
	cfg.PolicyFile = policyFile(t, "")
	given := cfg.Settings
	cfg.Reload = func() (Settings, error) { return given, nil }
	a := runAgent(t, cfg)
	b := backend{a}
	friend, other := newIdentity(t), newIdentity(t)
	for _, id := range []string{friend.ID.String(), other.ID.String()} {
		if _, err := b.ChangeTrust(t.Context(), control.TrustRequest{Action: "add", Device: id}); err != nil {
			t.Fatal(err)
		}
	}
	writePolicy(t, cfg.PolicyFile, "receive = false\npairing = false\ndevices = [\""+friend.ID.String()+"\"]\nrate_up = \"1MB/s\"\ndevice_rate_up = \"100k\"\n")
	given.Name, given.Inbox, given.Listen = "eve", filepath.Join(t.TempDir(), "new", "inbox"), "127.0.0.1:1"
	given.Accept = AcceptTrusted
	c, err := b.ReloadConfiguration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Later, []string{"listen"}) || setting(t, c.Settings, "listen").Value != cfg.Listen {
		t.Errorf("later %q, listen %+v", c.Later, setting(t, c.Settings, "listen"))
	}
	if info, err := os.Stat(given.Inbox); err != nil || !info.IsDir() || a.status().Agent.Inbox != given.Inbox {
		t.Errorf("the new inbox does not count: %v, status %q", err, a.status().Agent.Inbox)
	}
	if setting(t, c.Settings, "name").Value != "eve" || a.status().Name != "eve" || a.nameFor(session.Peer{ID: friend.ID}) != "eve" || !strings.HasPrefix(a.finder.Name(), "eve") {
		t.Errorf("the new name does not count: %+v, announced as %q", setting(t, c.Settings, "name"), a.finder.Name())
	}
	r := a.now()
	if r.receives() || r.Accept != AcceptTrusted || r.RateUp != 1e6 {
		t.Errorf("after the reload: %+v", r.Settings)
	}
	if up, down := r.rates(trust.Record{Permissions: trust.Permissions{RateUp: 50_000, RateDown: 7}}); up != 50_000 || down != 7 {
		t.Errorf("the rates of a device are %d and %d", up, down)
	}
	if a.trust.Standing(friend.ID) != trust.Trusted || a.trust.Standing(other.ID) != trust.Blocked {
		t.Errorf("the allowed device is %v, the other one %v", a.trust.Standing(friend.ID), a.trust.Standing(other.ID))
	}
	if list, err := b.Trust(t.Context()); err != nil || !slices.ContainsFunc(list, func(d control.Trusted) bool { return d.ByPolicy && d.ID == other.ID.String() }) {
		t.Errorf("the trust list does not say what the policy does: %+v, %v", list, err)
	}
	for what, err := range map[string]error{
		"trust":      second(b.ChangeTrust(t.Context(), control.TrustRequest{Action: "add", Device: newIdentity(t).ID.String()})),
		"setup code": second(b.SetupCode(t.Context(), control.SetupCodeRequest{})),
		"pair":       second(b.Pair(t.Context(), control.PairRequest{Device: friend.ID.String()})),
	} {
		if !errors.Is(err, &control.Error{Code: control.CodePermission}) {
			t.Errorf("%s while pairing is off: %v", what, err)
		}
	}
	// A mistake loosens nothing, and is said until it is mended.
	writePolicy(t, cfg.PolicyFile, "receive = true\nnonsense = 1\n")
	if _, err := b.ReloadConfiguration(t.Context()); !errors.Is(err, &control.Error{Code: control.CodeUsage}) {
		t.Errorf("a reload of a bad policy: %v", err)
	}
	if a.now() != r {
		t.Error("a bad policy changed the rules")
	}
	notices := func() string { return strings.Join(a.status().Notices, "\n") }
	if !strings.Contains(notices(), "line 2: unknown key") {
		t.Errorf("notices: %s", notices())
	}
	writePolicy(t, cfg.PolicyFile, "")
	given.Name, given.Inbox, given.Listen = "ada", cfg.Inbox, cfg.Listen
	if err := a.Reload(); err != nil || !a.now().receives() || a.trust.Standing(other.ID) != trust.Trusted || notices() != "" {
		t.Errorf("without a policy: %v, notices %q", err, notices())
	}
}

// Visibility counts from the reload on: in mDNS, on the radio and in what strangers are told.
func TestVisibilityAtReload(t *testing.T) {
	cfg := localConfig(t)
	cfg.PolicyFile = policyFile(t, "")
	a := runAgent(t, cfg)
	told := func() string {
		advert := a.direct.advert()
		return a.nameFor(session.Peer{}) + "|" + a.finder.Name() + "|" + advert.Name + "|" + string(advert.Vendor[0])
	}
	everyone := func(policy string) {
		t.Helper()
		writePolicy(t, cfg.PolicyFile, policy)
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		key := a.id.Key()
		if text := told(); !containsAny(text, "ada") || !strings.Contains(text, string(key[:])) || a.status().Agent.Visibility != "everyone" {
			t.Errorf("visible to everyone: %q, %+v", text, a.status().Agent)
		}
	}
	everyone("")
	for _, v := range []Visibility{VisibleTrusted, VisibleHidden} {
		writePolicy(t, cfg.PolicyFile, "visibility = \""+string(v)+"\"\n")
		c, err := backend{a}.ReloadConfiguration(t.Context())
		if err != nil || len(c.Later) > 0 || len(a.status().Notices) > 0 {
			t.Fatalf("%v: %+v, %q", err, c, a.status().Notices)
		}
		key := a.id.Key()
		if text := told(); containsAny(text, "ada", a.id.ID.Short()) || strings.Contains(text, string(key[:])) || a.status().Agent.Visibility != string(v) {
			t.Errorf("%s: it tells %q, %+v", v, text, a.status().Agent)
		}
		if (a.finder.Name() == "") != (v == VisibleHidden) || a.direct.advert().Visible != (v != VisibleHidden) {
			t.Errorf("%s: announced as %q, on the radio %v", v, a.finder.Name(), a.direct.advert().Visible)
		}
	}
	everyone("")
}

func second[T any](_ T, err error) error { return err }

func TestFoldersThatMayBeShared(t *testing.T) {
	dir := t.TempDir()
	public, link := filepath.Join(dir, "public"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(public, 0o755), os.Symlink(public, link)); err != nil {
		t.Fatal(err)
	}
	r := &rules{policy: policy.Policy{Shares: &[]string{link}}}
	for folder, want := range map[string]bool{public: true, filepath.Join(public, "a"): true, public + "x": false, dir: false, "/": false} {
		if r.mayShare(folder) != want {
			t.Errorf("%s may be shared: %v", folder, !want)
		}
	}
	if !(&rules{}).mayShare("/") || !(&rules{policy: policy.Policy{Shares: &[]string{"/"}}}).mayShare("/srv") || (&rules{policy: policy.Policy{Shares: &[]string{}}}).mayShare("/srv") {
		t.Error("no rule, the whole tree, or nothing at all is mixed up")
	}
}

func newIdentity(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}
