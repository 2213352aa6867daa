package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nigh/lab"
	"nigh/lab/node"
)

// A device that is new, with the terminal UI as its first program: the name and the folder are asked once, count at once, for
// a second terminal UI and for commands without an agent. The person's configuration file is as it was.
func TestFirstRun(t *testing.T) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	h := lab.NewNet(t).Host("ada")
	home := t.TempDir()
	a := &node.Agent{Config: node.Config{Binary: bin, Dir: home, Command: h.Command}, Socket: filepath.Join(home, "s")}
	config := filepath.Join(home, "mine.toml")
	const mine = "# mine, and not to be touched\ndirect = false\n"
	if err := os.WriteFile(config, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"NIGH_CONFIG=" + config, "NIGH_STATE=" + filepath.Join(home, "state"), "XDG_DOWNLOAD_DIR=" + filepath.Join(home, "Downloads"), "SUDO_USER="}
	at := openPane(t, a, "the first window", 60, 16, home, env...)
	at.shows(`Welcome to nigh`)
	at.shows(`> Name +\S+`)
	at.until(`> Inbox`, "Down")
	at.press("C-u")
	at.types("~/incoming")
	at.press("Up", "C-u")
	at.types("kitchen-pi")
	at.press("Enter")
	at.shows(`nigh  kitchen`)
	at.until(`No network here leads to other devices`, "n") // no to the service, where systemd runs
	at.press("q")
	at.ends()
	if info, err := os.Stat(filepath.Join(home, "incoming")); err != nil || !info.IsDir() {
		t.Errorf("the folder that was typed: %v", err)
	}

	command := func(args ...string) string {
		t.Helper()
		cmd := h.Command(t.Context(), bin, args...)
		cmd.Env = append(os.Environ(), append(env, "HOME="+home, "NIGH_SOCKET="+a.Socket)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("nigh %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	if said := command("config", "show", "--origin"); !strings.Contains(said, "kitchen-pi") || !strings.Contains(said, filepath.Join(home, "incoming")) {
		t.Errorf("without an agent the settings are\n%s", said)
	}
	if said := command("config", "set", "name", "attic-pi"); said != "name is now attic-pi\n" {
		t.Errorf("another name: %s", said)
	}

	again := openPane(t, a, "the second window", 80, 24, home, env...)
	again.shows(`nigh  attic-pi  me (?s).*No network here leads to other devices`)
	if text := again.text(); strings.Contains(text, "Welcome") {
		t.Errorf("it is asked again:\n%s", text)
	}
	again.press("q")
	again.ends()
	if raw, err := os.ReadFile(config); err != nil || string(raw) != mine {
		t.Errorf("the person's file is now %q, %v", raw, err)
	}
}
