// Package dbusapi is the thin typed layer over fi.w1.wpa_supplicant1, the D-Bus interface of wpa_supplicant.
//
// One method of [Client] is one D-Bus method call or property access: it encodes Go values into exactly the D-Bus types
// that wpa_supplicant tests for (giving u where i is expected is InvalidArgs), decodes the answer into a struct, and maps
// the error name to a sentinel. [Decode] does the same for signals. Nothing here keeps state, retries or waits for a
// signal: that is package wpa, the only caller.
//
// Everything decoded here may have come from another device's frames. Decoding never fails as a whole: a property that
// is missing, has another type or is too long is left at its zero value, and lists are cut at [MaxList].
//
// It follows doc/dbus.doxygen and wpa_supplicant/dbus/ of hostap 2.10 (the oldest version supported) to 2.11.
package dbusapi
