"""What the pages say, in each language."""
# ruff: noqa: RUF001 - Russian has letters that look like Latin ones

from __future__ import annotations

__all__ = ("LANGUAGES", "choose_language", "say")

#: The first is for everybody who reads none of them.
LANGUAGES = ("en", "ru")

_TEXTS: dict[str, tuple[str, str]] = {
    "sign_in": ("Sign in", "Вход"),
    "do_sign_in": ("Sign in", "Войти"),
    "sign_in_for": ("Sign in to go on to {client}", "Войдите, чтобы продолжить в {client}"),
    "username": ("User name or email", "Имя пользователя или почта"),
    "password": ("Password", "Пароль"),
    "wrong_credentials": ("The name or the password is wrong.", "Неверное имя или пароль."),
    "throttled": (
        "Too many attempts failed. Wait (minutes: {minutes}), then try again; you may still sign in from elsewhere.",
        "Слишком много неудачных попыток. Подождите (минут: {minutes}); войти из другого места можно и сейчас.",
    ),
    "account": ("My account", "Моя учётная запись"),
    "browsers": ("Browsers", "Браузеры"),
    "this_browser": ("this browser", "этот браузер"),
    "sign_out": ("Sign out", "Выйти"),
    "programs": ("Programs that are logged in", "Программы с доступом"),
    "no_programs": ("None.", "Нет."),
    "log_out": ("Log out", "Завершить"),
    "last_used": ("last used", "последнее использование"),
    "never_used": ("never used", "не использовался"),
    "expires": ("good until", "действует до"),
    "end_all": ("End everything but this browser", "Завершить всё, кроме этого браузера"),
    "apps": ("Programs that need not ask again", "Программы, которым разрешён доступ"),
    "no_apps": ("None.", "Нет."),
    "remove": ("Remove", "Удалить"),
    "tokens": ("Personal access tokens", "Личные токены доступа"),
    "tokens_about": (
        "For a program that cannot log in. Such a token cannot decide what agents may do.",
        "Для программы, которая не может войти сама. Такой токен не может решать, что разрешено агентам.",
    ),
    "token_name": ("What it is for", "Для чего он"),
    "token_scopes": ("It may", "Он может"),
    "token_days": ("Days that it is good for", "Срок действия, дней"),
    "make_token": ("Make a token", "Создать токен"),
    "token_refused": (
        "A token needs a name and something that it may do.",
        "Токену нужны название и хотя бы одно право.",
    ),
    "done_token": (
        "This is the token. It is shown only now.",
        "Это токен. Он показан только сейчас.",
    ),
    "change_password": ("Change the password", "Сменить пароль"),
    "old_password": ("Password until now", "Прежний пароль"),
    "password_wrong": ("The password until now is another one.", "Прежний пароль неверен."),
    "done_password": (
        "The password is changed, and everything else that was logged in has ended.",
        "Пароль изменён, все остальные входы завершены.",
    ),
    "second_factor": ("Second factor", "Второй фактор"),
    "second_factor_asks": (
        "Enter the code that your authenticator app shows, or one of your recovery codes.",
        "Введите код из приложения-аутентификатора или один из запасных кодов.",
    ),
    "second_factor_wrong": (
        "This code is wrong, or was used already. Wait for the next one.",
        "Код неверен или уже использован. Дождитесь следующего.",
    ),
    "code": ("Code", "Код"),
    "recovery_codes": (
        "Keep these recovery codes: each signs you in once when you do not have the app. They are shown only now.",
        "Сохраните запасные коды: каждый один раз заменит приложение. Они показаны только сейчас.",
    ),
    "factor_setup": (
        "Scan this with an authenticator app, or type the secret, then enter the code that it shows.",
        "Отсканируйте код приложением-аутентификатором или введите секрет, затем введите показанный код.",
    ),
    "factor_confirm": ("Turn it on", "Включить"),
    "factor_on": (
        "Signing in asks for a code of your authenticator app.",
        "При входе запрашивается код из приложения-аутентификатора.",
    ),
    "factor_off": ("Signing in asks for the password alone.", "При входе запрашивается только пароль."),
    "factor_begin": ("Set up an authenticator app", "Подключить приложение-аутентификатор"),
    "factor_remove": ("Turn it off", "Отключить"),
    "done_factor": ("The second factor is on.", "Второй фактор включён."),
    "logout": ("Sign out", "Выход"),
    "logged_out": (
        "Nobody is signed in with this browser. You can close this page.",
        "В этом браузере никто не вошёл. Страницу можно закрыть.",
    ),
    "new_password": ("New password", "Новый пароль"),
    "again": ("The same once more", "Ещё раз"),
    "set_password": ("Set the password", "Сохранить пароль"),
    "reset_for": ("Choose a new password for {username}.", "Выберите новый пароль для {username}."),
    "reset_done": (
        "The new password is set, and everything that was logged in has ended. You can close this page.",
        "Новый пароль сохранён, все прежние входы завершены. Страницу можно закрыть.",
    ),
    "reset_ended": (
        "This link was used already, or is too old. An administrator can make a new one.",
        "Ссылка уже использована или устарела. Администратор может создать новую.",
    ),
    "password_hint": (
        "At least {shortest} characters; several words are easy to remember.",
        "Не меньше {shortest} символов; несколько слов легко запомнить.",
    ),
    "password_differ": ("The two passwords differ.", "Пароли не совпадают."),
    "password_too_short": (
        "A password needs at least {shortest} characters.",
        "В пароле должно быть не меньше {shortest} символов.",
    ),
    "password_too_long": ("This password is too long.", "Пароль слишком длинный."),
    "password_too_common": (
        "This password is one of the first that everybody tries.",
        "Этот пароль подбирают одним из первых.",
    ),
    "password_like_name": (
        "A password must not be your name or address.",
        "Пароль не должен совпадать с именем или адресом.",
    ),
    "consent": ("Allow access?", "Разрешить доступ?"),
    "consent_asks": ("{client} asks to:", "{client} просит разрешения:"),
    "signed_in_as": ("You are signed in as {username}.", "Вы вошли как {username}."),
    "other_account": ("Use another account", "Войти под другим именем"),
    "goes_to": ("The answer goes to {host}.", "Ответ будет передан в {host}."),
    "goes_to_here": (
        "The answer goes to a program on this computer ({host}). Go on only if you have just started it yourself.",
        "Ответ получит программа на этом компьютере ({host}). Продолжайте, только если вы сами её запустили.",
    ),
    "goes_to_app": (
        "The answer goes to an app on this device ({host}). Go on only if you have just used it yourself.",
        "Ответ получит приложение на этом устройстве ({host}). Продолжайте, только если вы сами им пользуетесь.",
    ),
    "self_registered": (
        "This program registered itself: nobody has checked its name.",
        "Программа зарегистрировалась сама: её название никто не проверял.",
    ),
    "described_at": (
        "This program is described at {host}: nobody else has checked its name.",
        "Программа описана на {host}: её название больше никто не проверял.",
    ),
    "allow": ("Allow", "Разрешить"),
    "deny": ("Deny", "Отклонить"),
    "go_on": ("Go on", "Продолжить"),
    "device": ("Let a device in", "Подключить устройство"),
    "device_code": ("Code that the device shows", "Код, который показывает устройство"),
    "device_wrong": (
        "No device waits with this code. Codes are good for ten minutes: look at the device again.",
        "Устройства с таким кодом нет. Код действует десять минут: проверьте его на устройстве.",
    ),
    "device_throttled": (
        "Too many wrong codes. Wait a few minutes, then sign in again.",
        "Слишком много неверных кодов. Подождите несколько минут и войдите снова.",
    ),
    "device_compare": ("Is this the code that the device shows?", "Устройство показывает этот код?"),
    "device_from": ("The device asked from {address}.", "Запрос пришёл с адреса {address}."),
    "device_warning": (
        "Go on only if it is yours and in front of you; whoever sent you a link with a code wants to use your account.",
        "Продолжайте, только если оно ваше и перед вами; тот, кто прислал ссылку с кодом, хочет войти от вашего имени.",
    ),
    "device_allowed": (
        "{client} may go on. You can close this page.",
        "{client} может продолжать. Страницу можно закрыть.",
    ),
    "device_denied": (
        "{client} was not let in. You can close this page.",
        "{client} не получает доступа. Страницу можно закрыть.",
    ),
    "error": ("This did not work", "Не получилось"),
    "error_unknown_client": (
        "The program that sent you here is not known to this server.",
        "Этот сервер не знает программу, которая вас сюда направила.",
    ),
    "error_unknown_redirect": (
        "The program that sent you here asks for the answer at an address that it is not registered with.",
        "Программа просит передать ответ по адресу, который за ней не зарегистрирован.",
    ),
    "error_unreadable": (
        "The program that sent you here made a request that cannot be read.",
        "Программа, которая вас сюда направила, составила непонятный запрос.",
    ),
    "error_forged_form": (
        "This form is no longer valid. Go back, load the page again and try once more. Cookies have to be allowed.",
        "Форма устарела. Вернитесь, обновите страницу и попробуйте ещё раз. Файлы cookie должны быть разрешены.",
    ),
    "error_other": ("The server could not do this now.", "Сейчас сервер не смог это сделать."),
    "error_details": ("For its author:", "Для её автора:"),
    "scope_openid": ("know who you are", "узнать, кто вы"),
    "scope_profile": ("see your user name", "видеть имя пользователя"),
    "scope_email": ("see your email address", "видеть адрес почты"),
    "scope_offline_access": ("stay logged in while you are away", "оставаться в системе без вас"),
    "scope_api:read": ("read your sessions", "читать ваши сессии"),
    "scope_api:write": (
        "create sessions and send messages and tool results",
        "создавать сессии, отправлять сообщения и результаты инструментов",
    ),
    "scope_approvals:decide": ("decide what agents may do", "решать, что разрешено агентам"),
    "scope_api:admin": ("administer this server", "управлять этим сервером"),
}


def say(language: str, key: str, **parts: object) -> str:
    """Say something in a language."""
    return _TEXTS[key][LANGUAGES.index(language)].format(**parts)


def choose_language(accepted: str | None) -> str:
    """Choose from ``Accept-Language`` (RFC 9110 section 12.5.4) what the reader likes best of what there is."""
    best, chosen = 0.0, LANGUAGES[0]
    for part in (accepted or "").split(","):
        tag, _, parameter = part.strip().partition(";")
        name, _, value = parameter.strip().partition("=")
        try:
            weight = float(value) if name == "q" else 1.0
        except ValueError:
            continue
        language = tag.lower().partition("-")[0]
        if language in LANGUAGES and best < weight <= 1:
            best, chosen = weight, language
    return chosen
