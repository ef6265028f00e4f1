package wire

import "github.com/ikegod/ikegod/pkg/iana"

// ID is an Identification payload (RFC 7296 3.5); Payload says whether it is IDi or IDr.
type ID struct {
	Payload iana.Payload
	IDType  iana.IDType
	Data    []byte
}

func parseID(t iana.Payload, c *cursor) ID {
	p := ID{Payload: t, IDType: iana.IDType(c.u8("ID Type"))}
	c.reserved(3)
	p.Data = c.rest()
	return p
}

// Type implements Payload.
func (p ID) Type() iana.Payload { return p.Payload }

// Len implements Payload.
func (p ID) Len() int { return 4 + len(p.Data) }

// AppendTo implements Payload. What it appends is RestOfInitIDPayload or RestOfRespIDPayload of RFC 7296 2.15.
func (p ID) AppendTo(b []byte) []byte {
	b = append(b, byte(p.IDType), 0, 0, 0)
	return append(b, p.Data...)
}

// Cert is a Certificate payload (RFC 7296 3.6).
type Cert struct {
	Encoding iana.CertEncoding
	Data     []byte
}

func parseCert(c *cursor) Cert {
	return Cert{Encoding: iana.CertEncoding(c.u8("Cert Encoding")), Data: c.rest()}
}

// Type implements Payload.
func (Cert) Type() iana.Payload { return iana.PayloadCERT }

// Len implements Payload.
func (p Cert) Len() int { return 1 + len(p.Data) }

// AppendTo implements Payload.
func (p Cert) AppendTo(b []byte) []byte { return append(append(b, byte(p.Encoding)), p.Data...) }

// CertReq is a Certificate Request payload (RFC 7296 3.7).
type CertReq struct {
	Encoding iana.CertEncoding
	Data     []byte
}

func parseCertReq(c *cursor) CertReq {
	return CertReq{Encoding: iana.CertEncoding(c.u8("Cert Encoding")), Data: c.rest()}
}

// Type implements Payload.
func (CertReq) Type() iana.Payload { return iana.PayloadCERTREQ }

// Len implements Payload.
func (p CertReq) Len() int { return 1 + len(p.Data) }

// AppendTo implements Payload.
func (p CertReq) AppendTo(b []byte) []byte { return append(append(b, byte(p.Encoding)), p.Data...) }

// Auth is an Authentication payload (RFC 7296 3.8).
type Auth struct {
	Method iana.AuthMethod
	Data   []byte
}

func parseAuth(c *cursor) Auth {
	p := Auth{Method: iana.AuthMethod(c.u8("Auth Method"))}
	c.reserved(3)
	p.Data = c.rest()
	return p
}

// Type implements Payload.
func (Auth) Type() iana.Payload { return iana.PayloadAUTH }

// Len implements Payload.
func (p Auth) Len() int { return 4 + len(p.Data) }

// AppendTo implements Payload.
func (p Auth) AppendTo(b []byte) []byte {
	b = append(b, byte(p.Method), 0, 0, 0)
	return append(b, p.Data...)
}
