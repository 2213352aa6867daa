package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadSettings(t *testing.T) {
	for _, c := range []struct {
		name, text string
		env        []string
		want       func(Settings) bool
		says       string // of the error; "" = none
	}{
		{name: "empty", want: func(s Settings) bool { return s.Accept == "" && s.Direct == nil }},
		{name: "all", text: "name = \"pi\"\naccept = \"trusted\"\ndirect = false\ninterfaces = [\"eth0\"]\nintent = 0\n",
			want: func(s Settings) bool {
				return s.Name == "pi" && s.Accept == AcceptTrusted && !*s.Direct && s.Interfaces[0] == "eth0" && *s.Intent == 0
			}},
		{name: "environment wins", text: "name = \"file\"\n", env: []string{"NIGH_NAME=env", "OTHER=x"},
			want: func(s Settings) bool { return s.Name == "env" }},
		{name: "unknown key", text: "name = \"x\"\n\ncolour = 3\n", says: "line 3: unknown key \"colour\""},
		{name: "wrong type", text: "name = 3\n", says: "line 1"},
		{name: "not TOML", text: "name\n", says: "line 1"},
		{name: "bad accept", text: "accept = \"maybe\"\n", says: "accept must be ask, trusted or all"},
		{name: "visibility and join", text: "visibility = \"hidden\"\njoin = \"ask\"\n", env: []string{"NIGH_VISIBILITY=trusted"},
			want: func(s Settings) bool { return s.Visibility == VisibleTrusted && s.Join == JoinAsk }},
		{name: "bad visibility", text: "visibility = \"some\"\n", says: "visibility must be everyone, trusted or hidden"},
		{name: "bad join", env: []string{"NIGH_JOIN=all"}, says: "join must be trusted or ask"},
		{name: "bad intent", text: "intent = 16\n", says: "intent must be 0 to 15"},
		{name: "too many sources", text: "sources = 17\n", says: "sources must be 1 to 16"},
		{name: "long name", text: "name = \"" + strings.Repeat("x", 41) + "\"\n", says: "longer than 40"},
		{name: "bad bool in environment", env: []string{"NIGH_DIRECT=perhaps"}, says: "NIGH_DIRECT"},
		{name: "huge", text: strings.Repeat("# x\n", 20000), says: "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := LoadSettings(path, c.env)
			if c.says != "" {
				if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("error %v, want one that says %q", err, c.says)
				}
				return
			}
			if err != nil || !c.want(s) {
				t.Fatalf("got %+v, %v", s, err)
			}
		})
	}
}

func TestMissingConfig(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	if _, err := LoadSettings("", nil); err != nil {
		t.Errorf("the default file need not exist: %v", err)
	}
	if _, err := LoadSettings("/does/not/exist.toml", nil); !errors.Is(err, ErrConfig) {
		t.Errorf("a named file must exist: %v", err)
	}
}
