package iana_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

// stringers makes a value of each registry's type from a number.
var stringers = map[string]func(int) fmt.Stringer{
	"Exchange":      func(n int) fmt.Stringer { return iana.Exchange(n) },
	"Payload":       func(n int) fmt.Stringer { return iana.Payload(n) },
	"Protocol":      func(n int) fmt.Stringer { return iana.Protocol(n) },
	"TransformType": func(n int) fmt.Stringer { return iana.TransformType(n) },
	"Encr":          func(n int) fmt.Stringer { return iana.Encr(n) },
	"PRF":           func(n int) fmt.Stringer { return iana.PRF(n) },
	"Integ":         func(n int) fmt.Stringer { return iana.Integ(n) },
	"KE":            func(n int) fmt.Stringer { return iana.KE(n) },
	"SN":            func(n int) fmt.Stringer { return iana.SN(n) },
	"AuthMethod":    func(n int) fmt.Stringer { return iana.AuthMethod(n) },
	"Hash":          func(n int) fmt.Stringer { return iana.Hash(n) },
	"IDType":        func(n int) fmt.Stringer { return iana.IDType(n) },
	"CertEncoding":  func(n int) fmt.Stringer { return iana.CertEncoding(n) },
	"TSType":        func(n int) fmt.Stringer { return iana.TSType(n) },
	"CFGType":       func(n int) fmt.Stringer { return iana.CFGType(n) },
	"CFGAttr":       func(n int) fmt.Stringer { return iana.CFGAttr(n) },
	"Notify":        func(n int) fmt.Stringer { return iana.Notify(n) },
}

// TestEveryConstantHasAName reads this package's own source, so that a number cannot be added without its name, nor two names
// be the same within a registry.
func TestEveryConstantHasAName(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			typ, ok := spec.Type.(*ast.Ident)
			if !ok {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: not a plain number", spec.Names[0].Name)
				return true
			}
			number, err := strconv.Atoi(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			mk := stringers[typ.Name]
			if mk == nil {
				t.Fatalf("type %s is missing in this test", typ.Name)
			}
			s := mk(number).String()
			if strings.ContainsAny(s, "()") {
				t.Errorf("%s = %d has no name, prints %q", spec.Names[0].Name, number, s)
			}
			key := typ.Name + "/" + s
			if other, dup := seen[key]; dup {
				t.Errorf("%s and %s both print %q", other, spec.Names[0].Name, s)
			}
			seen[key] = spec.Names[0].Name
			return true
		})
	}
	if len(seen) < 200 {
		t.Errorf("found only %d constants", len(seen))
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		v    fmt.Stringer
		want string
	}{
		{iana.IKE_SA_INIT, "IKE_SA_INIT"},
		{iana.Exchange(240), "exchange(240)"},
		{iana.PayloadNotify, "Notify"},
		{iana.Payload(200), "payload(200)"},
		{iana.ProtoESP, "ESP"},
		{iana.ENCR_AES_GCM_16, "AES_GCM_16"},
		{iana.ENCR_AES_CBC, "AES_CBC"},
		{iana.ENCR_CHACHA20_POLY1305, "CHACHA20_POLY1305"},
		{iana.PRF_HMAC_SHA2_256, "HMAC_SHA2_256"},
		{iana.AUTH_HMAC_SHA2_256_128, "HMAC_SHA2_256_128"},
		{iana.AUTH_NONE, "NONE"},
		{iana.KE_MODP2048, "MODP2048"},
		{iana.KE_ECP256, "ECP_256"},
		{iana.KE_CURVE25519, "CURVE25519"},
		{iana.KE_MLKEM768, "ML_KEM_768"},
		{iana.KE(65000), "ke(65000)"},
		{iana.SN_ESN, "ESN"},
		{iana.AuthSharedKey, "PSK"},
		{iana.NO_PROPOSAL_CHOSEN, "NO_PROPOSAL_CHOSEN"},
		{iana.Notify(12345), "notify(12345)"},
	} {
		if got := c.v.String(); got != c.want {
			t.Errorf("%T(%d) prints %q, want %q", c.v, c.v, got, c.want)
		}
	}
}

func TestNotifyError(t *testing.T) {
	if !iana.TS_UNACCEPTABLE.Error() || !iana.Notify(16383).Error() {
		t.Error("numbers below 16384 are errors (RFC 7296 3.10.1)")
	}
	if iana.INITIAL_CONTACT.Error() || iana.Notify(65535).Error() {
		t.Error("numbers from 16384 on are status (RFC 7296 3.10.1)")
	}
}
