// npm's oidc-provider with its adapter in memory, which is quicker than any database; prints where it listens and 16
// refresh tokens as one line of JSON. `node oidc_provider.mjs CLIENT SECRET`, in a folder where npm installed it.
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

const [, , id, secret] = process.argv
const issuer = 'http://127.0.0.1'
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials', 'authorization_code', 'refresh_token'],
      redirect_uris: ['https://client.example/cb'],
      token_endpoint_auth_method: 'client_secret_post',
    },
  ],
  scopes: ['openid', 'offline_access', 'api:read'],
  rotateRefreshToken: true,
  findAccount: (_, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
  },
})
const client = await provider.Client.find(id)
const tokens = []
for (let n = 0; n < 16; n += 1) {
  const grant = new provider.Grant({ accountId: 'ada', clientId: id })
  grant.addOIDCScope('offline_access')
  const grantId = await grant.save()
  const token = new provider.RefreshToken({
    accountId: 'ada',
    client,
    grantId,
    gty: 'authorization_code',
    scope: 'offline_access',
    rotations: 0,
  })
  tokens.push(await token.save())
}
const server = createServer(provider.callback())
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address()
  process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${port}`, tokens })}\n`)
})
