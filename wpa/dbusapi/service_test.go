package dbusapi

import (
	"reflect"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestDecodeServices(t *testing.T) {
	for _, c := range []struct {
		body []any
		want Signal
	}{
		{[]any{m{"peer_object": v(pathPeer), "update_indicator": v(uint16(3)), "tlvs": v([]byte{3, 0, 1, 1, 2})}}, ServiceResponse{pathPeer, 3, []byte{3, 0, 1, 1, 2}}},
		{[]any{m{"peer_object": v(pathPeer), "tlvs": v("text")}}, ServiceResponse{Peer: pathPeer}},
		{[]any{m{"peer_object": v(pathPeer), "tlvs": v(make([]byte, MaxServices+1))}}, nil},
		{[]any{m{"tlvs": v([]byte{3, 0, 1, 1, 2})}}, nil},
		{[]any{}, nil},
	} {
		got := Decode(&dbus.Signal{Name: ifaceP2P + ".ServiceDiscoveryResponse", Path: pathOwner, Body: c.body})
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: got %+v, want %+v", c.body, got, c.want)
		}
	}
}

func TestStationAddress(t *testing.T) {
	for path, want := range map[Path]string{
		pathGroup + "/Stations/42000000aa01":   "42:00:00:00:aa:01",
		pathGroup + "/Stations/42000000aa":     "",
		pathGroup + "/Stations/42000000aa01/x": "",
		pathGroup + "/Peers/42000000aa01":      "",
		"":                                     "",
	} {
		if got := stationAddress(path); got.String() != want {
			t.Errorf("%s: got %s", path, got)
		}
	}
}
