package wpatest

import (
	"slices"

	"github.com/godbus/dbus/v5"
)

// rewrite returns a copy of a decoded D-Bus value in which every string, object path and byte array is what swap makes of it.
// Key is the nearest key of a dictionary that the value is under, "" for none.
type rewrite struct {
	text func(key, s string) string
	blob func(key string, b []byte) []byte
}

func (r rewrite) value(key string, v any) any {
	switch v := v.(type) {
	case string:
		return r.text(key, v)
	case dbus.ObjectPath:
		return dbus.ObjectPath(r.text(key, string(v)))
	case []byte:
		return r.blob(key, slices.Clone(v))
	case dbus.Variant:
		return dbus.MakeVariantWithSignature(r.value(key, v.Value()), v.Signature())
	case []string:
		return each(v, func(s string) string { return r.text(key, s) })
	case []dbus.ObjectPath:
		return each(v, func(p dbus.ObjectPath) dbus.ObjectPath { return dbus.ObjectPath(r.text(key, string(p))) })
	case [][]byte:
		return each(v, func(b []byte) []byte { return r.blob(key, slices.Clone(b)) })
	case map[string]dbus.Variant:
		out := make(map[string]dbus.Variant, len(v))
		for k, e := range v {
			out[k] = r.value(k, e).(dbus.Variant)
		}
		return out
	case []any:
		return each(v, func(e any) any { return r.value(key, e) })
	}
	return v
}

func (r rewrite) values(list []any) []any {
	return each(list, func(v any) any { return r.value("", v) })
}

func each[T any](list []T, f func(T) T) []T {
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}
