// Package identity holds who this device is: an Ed25519 key in one private file,
// the certificate that carries it into TLS, and the DeviceID by which people and
// programs name it.
//
// A DeviceID is the SHA-256 of the public key (SubjectPublicKeyInfo in DER, RFC
// 8410), so it can be computed from the certificate of any session and cannot be
// claimed without the key. Nothing else in a certificate means anything: its
// dates, names and serial number are never read, because small computers start
// in 1970.
//
// The package does not decide whom to trust (package trust) and does not open
// connections (package session).
package identity
