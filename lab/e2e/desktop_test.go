package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/lab"
)

// desktop is a notification server, at the level of messages: a real one needs a screen.
type desktop chan string

func (d desktop) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"body", "body-markup"}, nil
}

func (d desktop) Notify(_ string, _ uint32, _, summary, body string, _ []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	d <- summary + "|" + body
	return 1, nil
}

func (d desktop) CloseNotification(uint32) *dbus.Error { return nil }

// An agent in its sandbox, in a user's session, shows messages and offers on the desktop; switched off, it does not.
func TestNotificationsOnTheDesktop(t *testing.T) {
	address := lab.SessionBus(t)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	shown := make(desktop, 100)
	if err := conn.Export(shown, "/org/freedesktop/Notifications", "org.freedesktop.Notifications"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.Notifications", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	ada := start(t, ha, "ada")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	bob := start(t, hb, "bob")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/does/not/exist")
	befriend(t, ada, bob)
	appears := func(want string) {
		t.Helper()
		select {
		case got := <-shown:
			if got != want {
				t.Errorf("shown is %q, want %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q is not shown:\n%s", want, bob.Tail())
		}
	}
	run(t, ada, 0, "msg", "<b>1 & 2</b>", "--to", "bob")
	appears("Message|ada: &lt;b&gt;1 &amp; 2&lt;/b&gt;")
	file := filepath.Join(t.TempDir(), "letter.txt")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, ada, 0, "send", file, "--to", "bob", "--no-wait")
	appears("Files are offered|ada wants to send 1 file: letter.txt")

	run(t, bob, 0, "config", "set", "notifications", "false")
	run(t, ada, 0, "msg", "unseen", "--to", "bob")
	run(t, bob, 0, "config", "set", "notifications", "true")
	run(t, ada, 0, "msg", "seen", "--to", "bob")
	appears("Message|ada: seen")
}
