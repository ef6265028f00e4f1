package wire

import "github.com/ikegod/ikegod/pkg/iana"

// Type implements Payload.
func (SA) Type() iana.Payload { return iana.PayloadSA }

// Len implements Payload.
func (SA) Len() int { return 0 }

// AppendTo implements Payload.
func (SA) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (KE) Type() iana.Payload { return iana.PayloadKE }

// Len implements Payload.
func (KE) Len() int { return 0 }

// AppendTo implements Payload.
func (KE) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (p ID) Type() iana.Payload { return p.Payload }

// Len implements Payload.
func (ID) Len() int { return 0 }

// AppendTo implements Payload.
func (ID) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (Cert) Type() iana.Payload { return iana.PayloadCERT }

// Len implements Payload.
func (Cert) Len() int { return 0 }

// AppendTo implements Payload.
func (Cert) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (CertReq) Type() iana.Payload { return iana.PayloadCERTREQ }

// Len implements Payload.
func (CertReq) Len() int { return 0 }

// AppendTo implements Payload.
func (CertReq) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (Auth) Type() iana.Payload { return iana.PayloadAUTH }

// Len implements Payload.
func (Auth) Len() int { return 0 }

// AppendTo implements Payload.
func (Auth) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (Nonce) Type() iana.Payload { return iana.PayloadNonce }

// Len implements Payload.
func (Nonce) Len() int { return 0 }

// AppendTo implements Payload.
func (Nonce) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (Notify) Type() iana.Payload { return iana.PayloadNotify }

// Len implements Payload.
func (Notify) Len() int { return 0 }

// AppendTo implements Payload.
func (Notify) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (Delete) Type() iana.Payload { return iana.PayloadDelete }

// Len implements Payload.
func (Delete) Len() int { return 0 }

// AppendTo implements Payload.
func (Delete) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (VendorID) Type() iana.Payload { return iana.PayloadVendorID }

// Len implements Payload.
func (VendorID) Len() int { return 0 }

// AppendTo implements Payload.
func (VendorID) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (p TS) Type() iana.Payload { return p.Payload }

// Len implements Payload.
func (TS) Len() int { return 0 }

// AppendTo implements Payload.
func (TS) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (SK) Type() iana.Payload { return iana.PayloadSK }

// Len implements Payload.
func (SK) Len() int { return 0 }

// AppendTo implements Payload.
func (SK) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (SKF) Type() iana.Payload { return iana.PayloadSKF }

// Len implements Payload.
func (SKF) Len() int { return 0 }

// AppendTo implements Payload.
func (SKF) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (CP) Type() iana.Payload { return iana.PayloadCP }

// Len implements Payload.
func (CP) Len() int { return 0 }

// AppendTo implements Payload.
func (CP) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (EAP) Type() iana.Payload { return iana.PayloadEAP }

// Len implements Payload.
func (EAP) Len() int { return 0 }

// AppendTo implements Payload.
func (EAP) AppendTo(b []byte) []byte { return b }

// Type implements Payload.
func (p Unknown) Type() iana.Payload { return p.PayloadType }

// Len implements Payload.
func (Unknown) Len() int { return 0 }

// AppendTo implements Payload.
func (Unknown) AppendTo(b []byte) []byte { return b }
