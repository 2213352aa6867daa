package wpa

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// raw is a program on the bus that does what it likes.
type raw struct{ *dbus.Conn }

func dialRaw(address string) (raw, error) {
	c, err := dbus.Connect(address)
	return raw{c}, err
}

// others lists the unique names on the bus but its own.
func (r raw) others(t *testing.T) []string {
	t.Helper()
	var names, out []string
	if err := r.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&names); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, ":") && n != r.Names()[0] {
			out = append(out, n)
		}
	}
	return out
}

// sendSignal sends a signal to one program, past everybody's match rules.
func (r raw) sendSignal(t *testing.T, to, iface, member string) {
	t.Helper()
	body := []any{dbus.ObjectPath("/x"), map[string]dbus.Variant{}}
	signature := dbus.SignatureOf(body...)
	if member == "NameOwnerChanged" {
		body = []any{"fi.w1.wpa_supplicant1", "", ":1.66"}
		signature = dbus.SignatureOf(body...)
	}
	m := &dbus.Message{
		Type: dbus.TypeSignal,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/fi/w1/wpa_supplicant1")),
			dbus.FieldInterface:   dbus.MakeVariant(iface),
			dbus.FieldMember:      dbus.MakeVariant(member),
			dbus.FieldDestination: dbus.MakeVariant(to),
			dbus.FieldSignature:   dbus.MakeVariant(signature),
		},
		Body: body,
	}
	if call := r.Send(m, nil); call.Err != nil {
		t.Fatal(call.Err)
	}
	// The bus has passed it on once it answers what came after it.
	if err := r.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
}

// removeInterface takes an interface away from the supplicant, as NetworkManager does with groups that it did not make.
func (r raw) removeInterface(t *testing.T, ifname string) {
	t.Helper()
	root := r.Object("fi.w1.wpa_supplicant1", "/fi/w1/wpa_supplicant1")
	var path dbus.ObjectPath
	if err := root.Call("fi.w1.wpa_supplicant1.GetInterface", 0, ifname).Store(&path); err != nil {
		t.Fatal(err)
	}
	if err := root.Call("fi.w1.wpa_supplicant1.RemoveInterface", 0, path).Err; err != nil {
		t.Fatal(err)
	}
}

// own takes a name on the bus.
func (r raw) own(t *testing.T, name string) {
	t.Helper()
	if reply, err := r.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own %s: %v, %v", name, reply, err)
	}
}
