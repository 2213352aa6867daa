package wpatest

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/godbus/dbus/v5"
)

// TestScriptForm checks that what is written is read back as it was.
func TestScriptForm(t *testing.T) {
	in := Script{
		{"x/y", "a", Call, rootPath + "/Interfaces/0", "P2PDevice.Find", []any{map[string]dbus.Variant{"Timeout": dbus.MakeVariant(int32(3)), "DiscoveryType": dbus.MakeVariant("social")}}},
		{"x/y", "a", Error, rootPath, "Root.GetInterface", []any{busName + ".InterfaceUnknown", "a \"b\"\tc"}},
		{"x/z", "b", Signal, rootPath + "/Interfaces/0", "P2PDevice.DeviceFoundProperties", []any{rootPath + "/Interfaces/0/Peers/02000000000a", map[string]dbus.Variant{
			"a": dbus.MakeVariant([]byte{0, 1, 255}), "b": dbus.MakeVariant([][]byte{{1, 2}, {}}), "c": dbus.MakeVariant([]dbus.ObjectPath{"/x"}), "d": dbus.MakeVariant([]byte{}),
			"e": dbus.MakeVariant(uint16(4)), "f": dbus.MakeVariant(int16(-4)), "g": dbus.MakeVariant([]dbus.ObjectPath{}), "h": dbus.MakeVariant(byte(7)), "i": dbus.MakeVariant(true),
			"j": dbus.MakeVariant(map[string]dbus.Variant{"Modes": dbus.MakeVariant([]string{"p2p"})}), "k": dbus.MakeVariant([]string{}), "l": dbus.MakeVariant(uint32(9)),
			"m": dbus.MakeVariant([]int32{2412, 5180}), "n": dbus.MakeVariant([][]byte{}), "o": dbus.MakeVariant("\x01 ü\n\xff"), "p": dbus.MakeVariant(uint64(1)),
			"q": dbus.MakeVariant(map[string]dbus.Variant{}),
		}}},
		{"x/z", "b", Reply, rootPath, "Properties.Get", nil},
	}
	var b bytes.Buffer
	if err := in.Write(&b); err != nil {
		t.Fatal(err)
	}
	out, err := ReadScript(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range in {
		if !reflect.DeepEqual(in[i], out[i]) {
			t.Errorf("wrote\n%#v, read\n%#v", in[i], out[i])
		}
	}
}
