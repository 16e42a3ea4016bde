// npm's openid-client through all that it can do here; what a person does, the test does.
import * as client from 'openid-client'
import { createInterface } from 'node:readline'

const { issuer, secret, redirect } = JSON.parse(Buffer.from(process.argv[2], 'base64'))
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const tell = (told) => process.stdout.write(`${JSON.stringify(told)}\n`)
const open = async (url) => {
  tell({ open: url })
  return (await lines.next()).value
}

const config = await client.discovery(new URL(issuer), 'web', secret, client.ClientSecretBasic(secret), {
  execute: [client.allowInsecureRequests], // the loopback has no TLS
})

const verifier = client.randomPKCECodeVerifier()
const state = client.randomState()
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: redirect,
  scope: 'openid profile api:read',
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  state,
  nonce: 'n-0',
})
const answer = new URL(await open(url.href))
const tokens = await client.authorizationCodeGrant(config, answer, {
  pkceCodeVerifier: verifier,
  expectedState: state,
  expectedNonce: 'n-0',
  idTokenExpected: true,
})
const person = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token)
const before = await client.tokenIntrospection(config, refreshed.access_token)
await client.tokenRevocation(config, refreshed.refresh_token)
const after = await client.tokenIntrospection(config, refreshed.access_token)

const own = await client.clientCredentialsGrant(config, { scope: 'api:read' })
const program = await client.tokenIntrospection(config, own.access_token)

const device = await client.initiateDeviceAuthorization(config, { scope: 'openid profile' })
await open(device.verification_uri_complete)
const granted = await client.pollDeviceAuthorizationGrant(config, { ...device, interval: 0.1 })
const deviceInfo = await client.fetchUserInfo(config, granted.access_token, granted.claims().sub)

let wrong
try {
  await client.refreshTokenGrant(config, 'x'.repeat(43))
} catch (error) {
  wrong = error.error
}
tell({
  person: person.preferred_username,
  refreshed: refreshed.refresh_token !== tokens.refresh_token,
  nonce: tokens.claims().nonce,
  active: [before.active, after.active],
  program: program.client_id,
  device: deviceInfo.preferred_username,
  wrong,
})
process.exit(0)
